"""The same job on sounds, from the command line: a folder of tones, and what goes wrong with them."""

import csv
import json
import re

import numpy as np
import pytest

pytest.importorskip("soundfile")

from tests.data.sounds import encoded, tone, wav

import headstart as hs
from headstart.records.predictions import Predictions


def call(seed, is_high, rate=16_000):
    """Half a second to one and a half of a tone that slides about, in noise."""
    rng = np.random.default_rng(seed)
    n = int(rng.uniform(0.5, 1.5) * rate)
    hz = np.linspace(*rng.uniform(*((700, 1800) if is_high else (300, 900)), 2), n)
    wave = np.sin(2 * np.pi * np.cumsum(hz) / rate) * rng.uniform(0.1, 0.6)
    return (wave + rng.normal(0, 0.05, n)).astype(np.float32)


def folder_of(place, n, first=0):
    for i in range(first, first + n):
        label = "high" if i % 2 else "low"
        (place / label).mkdir(parents=True, exist_ok=True)
        rate = 8000 if i % 3 == 0 else 16_000
        (place / label / f"{i:03}.wav").write_bytes(wav(call(i, i % 2, rate), rate))
    return place


@pytest.fixture(scope="module")
def finished_sounds(tmp_path_factory, cache):
    """A run on 330 tones, a silent one, one that is cut, and a copy."""
    place = folder_of(tmp_path_factory.mktemp("sounds") / "calls", 330)
    (place / "high" / "silent.wav").write_bytes(wav(np.zeros(8000)))
    (place / "high" / "cut.wav").write_bytes(wav(tone(seconds=1), claims=64_000))
    (place / "low" / "copy.flac").write_bytes(encoded(call(0, False, 8000), 8000, kind="FLAC"))
    out = place.parent / "run"
    hs.fit(place, out=out, config=hs.FitConfig(backbone="toy/audio"), cache=cache)
    return out, place


def test_a_run_on_sounds_leaves_what_a_run_on_pictures_leaves(finished_sounds):
    run, _ = finished_sounds
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [b["key"] for b in evaluation["baselines"]] == ["majority", "log-mel", "random-network"]
    assert evaluation["verdict"]["against"] in ("log-mel", "random-network")
    assert evaluation["metrics"]["accuracy"]["value"] > 0.6
    assert {p.name for p in (run / "model").iterdir()} >= {"config.json", "preprocessor_config.json", "bundle.json"}
    assert json.loads((run / "run.json").read_text())["status"] == "done"


def test_bad_sounds_are_left_out_by_name_and_copies_stay_on_one_side(finished_sounds):
    run, _ = finished_sounds
    audit, split = (json.loads((run / name).read_text()) for name in ("audit.json", "split.json"))
    assert {q["id"]: q["code"] for q in audit["quarantined"]} == {"high/silent.wav": "AU65", "high/cut.wav": "AU63"}
    pair = ["low/000.wav", "low/copy.flac"]
    assert pair in [sorted(c["ids"]) for c in audit["clusters"]]
    assert len({name in split["test"] for name in pair}) == 1
    assert any("mixed sample rates" in f["text"] for f in audit["findings"])


def test_who_speaks_is_asked_for_until_it_is_said(headstart, tmp_path):
    place = folder_of(tmp_path / "calls", 24)
    code, out, _ = headstart("inspect", place, "--json")
    assert code == 0 and "keep them on one side with --group-by" in out
    code, out, _ = headstart("inspect", place, "--json", "--group-by", r"regex:(\d\d)\d?\.")
    assert code == 0 and "who speaks" not in out


def test_served_sounds_are_scored_as_they_were_evaluated(finished_sounds, headstart, tmp_path):
    run, place = finished_sounds
    judged = Predictions.load(run / "predictions.npz")
    code, _, _ = headstart("predict", run, place, "--out", tmp_path / "p.csv")
    assert code == 0
    with open(tmp_path / "p.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    for name, scores in zip(judged.ids, judged.scores, strict=True):
        assert np.allclose([float(rows[name][f"p_{label}"]) for label in judged.labels], scores, atol=2e-3)
    assert rows["high/cut.wav"]["problem"].startswith("AU63")


def test_one_file_and_samples_with_their_rate_are_predicted(finished_sounds, headstart):
    run, place = finished_sounds
    code, out, _ = headstart("predict", run, place / "high" / "001.wav", "--json")
    assert code == 0 and len(json.loads(out)["predictions"]) == 1
    model, wave = hs.load(run), call(1, True)
    by_file = model(place / "high" / "001.wav")
    assert by_file == pytest.approx(model((wave, 16_000)), abs=5e-3)
    assert by_file == pytest.approx(model((place / "high" / "001.wav").read_bytes()), abs=1e-6)
    together = model.predict([(wave, 16_000), (call(2, False), 16_000), (np.zeros(9000), 16_000)])
    assert list(together.ids) == ["0", "1"] and [q.code for q in together.quarantined] == ["AU65"]
    assert np.allclose(together.scores[0], list(model.predict([(wave, 16_000)]).scores[0]), atol=2e-3)


def test_evaluate_says_what_was_learnt_from_before(finished_sounds, headstart, tmp_path):
    run, place = finished_sounds
    code, out, _ = headstart("evaluate", run, folder_of(tmp_path / "new", 40, first=1000), "--json")
    found = json.loads(out)
    assert code == 0 and found["evaluation"]["n"] == 40 and not found["seen_in_training"]
    code, out, _ = headstart("evaluate", run, place, "--json")
    assert len(json.loads(out)["seen_in_training"]) >= 250


def test_the_saved_folder_opens_with_plain_transformers(finished_sounds):
    """The lines of the README, run as they stand, give the scores that headstart gives."""
    run, place = finished_sounds
    sound = place / "high" / "001.wav"
    readme = (run / "model" / "README.md").read_text()
    lines = readme.split("## Open it without headstart")[1].split("```python")[1].split("```")[0]
    lines = lines.replace('"./', f'"{run / "model"}/').replace('"sound.wav"', f'"{sound}"')
    told = []
    exec(compile(lines, "README.md", "exec"), {"print": told.append})
    assert told[0] == pytest.approx(hs.load(run, precision="float32")(sound), abs=2e-3)


def test_the_report_shows_sounds_and_lets_the_worst_mistakes_be_heard(finished_sounds):
    run, _ = finished_sounds
    page = (run / "report.html").read_text()
    assert 'class="sound" src="data:image/png;base64,' in page
    assert 0 < page.count('<audio controls preload="none" src="data:audio/wav;base64,') <= 24
    assert "media-src data:" in page and len(page) < 3_000_000
    assert "The network hears one channel at 16,000 Hz" in page


def test_numbers_and_several_labels_are_learnt_from_sounds(cache, tmp_path):
    waves = [(call(i, i % 2), 16_000) for i in range(60)]
    kinds = {
        "regression": [len(w) / 16_000 for w, _ in waves],
        "multi-label": [
            "up|long" if i % 2 and len(w) > 16_000 else "up" if i % 2 else "long" for i, (w, _) in enumerate(waves)
        ],
    }
    for kind, y in kinds.items():
        data = hs.FitConfig().data
        config = hs.FitConfig(data=type(data)(task=kind), backbone="toy/audio", random_baseline="off")
        run = hs.fit(waves, y, out=tmp_path / kind, config=config, cache=cache)
        assert [b.key for b in run.evaluation.baselines] == ["majority", "log-mel"]
        assert hs.load(tmp_path / kind).predict([waves[0]]).scores.shape[0] == 1


def test_a_tuned_run_on_sounds_keeps_the_convolutions_and_says_what_was_judged(finished_sounds, headstart, tmp_path):
    from safetensors.numpy import load_file

    run, place = finished_sounds
    words = ["-b", "toy/audio", "--strategy", "full", "--epochs", "2", "--lr", "1e-3", "--precision", "float32"]
    code, _, err = headstart("fit", place, "--out", tmp_path, *words)
    assert code == 0, err
    before, after = (load_file(folder / "model" / "model.safetensors") for folder in (run, tmp_path))
    moved = {name for name in before if (before[name] != after[name]).any()}
    assert any(name.startswith("layers.0") for name in moved)
    assert not any(name.startswith(("conv", "embed_positions")) for name in moved)
    judged, model = Predictions.load(tmp_path / "predictions.npz"), hs.load(tmp_path)
    some = judged.ids[:8]
    assert np.allclose(model.predict([place / name for name in some]).scores, judged.scores[:8], atol=2e-3)
    page = (tmp_path / "report.html").read_text()
    section = re.sub(r"<[^>]+>", " ", page.split('id="finetuning"')[1].split("</section>")[0])
    assert "sounds" in section and not re.search(r"\b([Ii]mage|[Pp]icture|[Tt]ext)s?\b", section), section


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """The folder of a small Whisper of random weights whose last layer has forgotten all but one number."""
    import torch
    import transformers

    place = tmp_path_factory.mktemp("nets") / "forgetful"
    shape = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SMALL.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.WhisperModel(transformers.WhisperConfig(d_model=32, **shape))
    with torch.no_grad():
        network.encoder.layer_norm.weight[1:] = 0
    network.save_pretrained(place)
    transformers.WhisperFeatureExtractor().save_pretrained(place)
    return place


SMALL = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}


@pytest.mark.parametrize("n", [60, 330])
def test_a_mixture_of_layers_is_saved_and_served_where_the_last_one_knows_less(n, forgetful, cache, tmp_path):
    """60 sounds are judged by cross-validation, 330 have a test part."""
    waves = [(call(i, i % 2), 16_000) for i in range(n)]
    config = hs.FitConfig(backbone=f"file:{forgetful}", random_baseline="off")
    run = hs.fit(waves, ["high" if i % 2 else "low" for i in range(n)], out=tmp_path, config=config, cache=cache)
    notes = json.loads((tmp_path / "heads.json").read_text())["notes"]
    assert "a mixture of the 2 layers is kept" in notes[0]
    stated = json.loads((tmp_path / "model" / "config.json").read_text())
    assert stated["kind"] == "layers" and sum(stated["changes"]["weights"]) == pytest.approx(1, abs=1e-3)
    assert run.evaluation.score.value > 0.6 and run.evaluation.score.n == (n if n == 60 else 66)
    judged = Predictions.load(tmp_path / "predictions.npz")
    served = hs.load(tmp_path).predict([waves[int(name)] for name in judged.ids])
    if n == 330:
        assert np.allclose(served.scores, judged.scores, atol=2e-3)
    assert "opens without headstart" not in (tmp_path / "model" / "README.md").read_text().lower().split("why")[0]


@pytest.mark.parametrize("words, code", [(("-b", "toy/conv"), "PL80"), (("-b", "toy/audio", "--prove"), "PL81")])
def test_what_does_not_go_together_is_said_before_any_work(words, code, headstart, tmp_path):
    exit_code, _, err = headstart("fit", folder_of(tmp_path / "calls", 12), "--out", tmp_path / "run", *words)
    assert exit_code == 2 and code in err


@pytest.mark.parametrize("strategy", ["probe", "last-stages"])
def test_a_voice_network_from_a_local_file_is_saved_and_served_as_it_was_judged(strategy, headstart, tmp_path):
    """Weights as Resemblyzer's package has them, under the names of torch's own LSTM; no package is needed."""
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"lstm": torch.nn.LSTM(40, 256, 3, batch_first=True), "linear": torch.nn.Linear(256, 256)}
    save_file(
        {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state_dict().items()},
        tmp_path / "voice.safetensors",
    )
    place = folder_of(tmp_path / "calls", 310)
    words = ["-b", "package/resemblyzer", "--weights", tmp_path / "voice.safetensors", "--random-baseline", "off"]
    words += [] if strategy == "probe" else ["--strategy", strategy, "--epochs", "1"]
    code, _, err = headstart("fit", place, "--out", tmp_path / "run", *words)
    assert code == 0, err
    judged = Predictions.load(tmp_path / "run" / "predictions.npz")
    served = hs.load(tmp_path / "run").predict([place / name for name in judged.ids[:8]])
    assert np.allclose(served.scores, judged.scores[:8], atol=2e-3)
    stated = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stated["status"] == "done" and stated["config"]["weights"].endswith("voice.safetensors")
