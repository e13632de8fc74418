"""Sounds as they come: each bad one is left out with its reason, each odd one is read as documented (B10)."""

import io
import struct

import numpy as np
import pytest

pytest.importorskip("soundfile")

from tests.data.sounds import encoded, tone, wav

from headstart.data.audit import audit
from headstart.data.decode import BadExample
from headstart.data.looks import AudioLook
from headstart.data.open import open_dataset
from headstart.data.sound import SoundLimits, Waveform, as_waveform, decode_sound, is_sound


def decoded(data, **limits):
    return decode_sound(data, name="a.wav", limits=SoundLimits(**limits))


def refused(data):
    with pytest.raises(BadExample) as found:
        decoded(data)
    return found.value


NAN = tone()
NAN[100] = np.nan
FLOAT = {"kind": "WAV", "subtype": "FLOAT"}

BAD = {
    "an empty file": (b"", "AU62", "the file is empty"),
    "no samples": (wav(np.zeros(0)), "AU62", "0.00 s"),
    "one sample": (wav(np.ones(1)), "AU62", "0.00 s"),
    "less than a window": (wav(tone(seconds=0.02)), "AU62", "0.02 s"),
    "cut in the middle": (wav(tone(seconds=6.2), claims=320_000), "AU63", "header says 10.0 s, found 6.2 s"),
    "a FLAC without its end": (encoded(tone(seconds=2), kind="FLAC")[:20_000], None, ""),
    "silence": (wav(np.zeros(8000)), "AU65", "is silent"),
    "nothing but an offset": (wav(np.full(8000, 0.5)), "AU65", "is silent"),
    "NaN": (encoded(NAN, **FLOAT), "AU65", "1 samples are NaN or infinite"),
    "infinity": (encoded(np.where(np.arange(9000) == 5, np.inf, 0.1), **FLOAT), "AU65", "NaN or infinite"),
    "a rate of 1": (wav(tone(seconds=0.01), rate=1), "AU64", "has 1 samples a second"),
    "a rate of 4 billion": (wav(tone(), rate=4_000_000_000), None, ""),
    "33 channels": (wav(np.tile(tone()[:, None], 33)), "AU64", "has 33 channels; at most 32"),
    "1,000 channels": (wav(np.tile(tone(seconds=0.1)[:, None], 1000)), "AU64", "has 1,000 channels"),
    "more samples than fit": (wav(np.zeros(0), 96_000, claims=2**30), "AU63", "found 0.0 s"),
    "eleven minutes": (wav(tone(seconds=660, rate=4000), rate=4000), "AU62", "660 s; at most 600 s"),
    "a text": (b"not a sound at all, just words" * 9, "AU60", "is no sound that is read here"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "AU60", "is no sound"),
    "a WAV header alone": (b"RIFF\x24\0\0\0WAVE", "AU60", "cannot be decoded"),
    "a WAV of noise": (b"RIFF\x24\0\0\0WAVE" + bytes(range(256)), "AU60", "cannot be decoded"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_learnt_from_is_left_out_with_its_reason(what):
    data, code, reason = BAD[what]
    problem = refused(data)
    assert code is None or problem.code == code, str(problem)
    assert problem.code[:2] == "AU" and reason in problem.reason


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_width_of_samples_means_the_same_sound(subtype):
    sound, facts = decoded(encoded(tone(), subtype=subtype))
    assert np.abs(sound.samples - tone()).max() < (0.03 if subtype in ("ULAW", "ALAW", "PCM_U8") else 1e-4)
    assert facts.format == f"WAV {subtype}" and facts.seconds == 0.5


@pytest.mark.parametrize(
    "kind, subtype", [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")]
)
def test_compressed_sounds_are_read_whatever_their_name(kind, subtype):
    data = encoded(tone(seconds=1), kind=kind, subtype=subtype)
    assert is_sound(data[:64])
    sound, facts = decoded(data)
    assert sound.rate_hz == 16_000 and facts.seconds == pytest.approx(1, abs=0.1)
    spectrum = np.abs(np.fft.rfft(sound.samples))
    assert spectrum.argmax() * 16_000 / len(sound.samples) == pytest.approx(440, abs=2)


def test_raw_frames_of_gsm_are_told_by_their_bytes():
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seconds=2, rate=8000), 8000, format="RAW", subtype="GSM610")
    data = buffer.getvalue()
    sound, facts = decoded(data)
    assert facts.format == "GSM" and sound.rate_hz == 8000 and facts.seconds == pytest.approx(2, abs=0.05)
    assert np.abs(np.fft.rfft(sound.samples)).argmax() / sound.seconds == pytest.approx(440, abs=2)


def test_channels_are_mixed_and_the_mixing_is_said():
    left, right = tone(300), tone(700)
    sound, facts = decoded(wav(np.stack([left, right], axis=1)))
    assert np.allclose(sound.samples, (left + right) / 2, atol=1e-4)
    assert facts.channels == 2 and facts.notes == ("2 channels mixed to one",)


def test_clipped_sounds_are_read_and_marked():
    _, facts = decoded(wav(np.clip(4 * tone(), -1, 1)))
    assert facts.notes == ("clipped at full scale",)


def test_a_stream_that_never_learnt_its_length_is_read():
    data = bytearray(wav(tone()))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 2**32 - 1)
    assert decoded(bytes(data))[1].seconds == 0.5


@pytest.mark.parametrize(
    "given",
    [
        Waveform(tone(), 16_000),
        (tone(), 16_000),
        (16_000, tone()),
        {"array": tone(), "sampling_rate": 16_000, "path": None},
        {"array": tone().tolist(), "sampling_rate": 16_000},
        ((tone() * 32768).astype(np.int16), 16_000),
        (np.stack([tone(), tone()]), 16_000),
        (np.stack([tone(), tone()], axis=1).astype(np.float64), 16_000),
    ],
)
def test_samples_are_taken_as_libraries_give_them(given):
    sound, _ = decode_sound(as_waveform(given), name="0")
    assert sound.samples.dtype == np.float32 and np.allclose(sound.samples, tone(), atol=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        "a.wav",
        (1, 2),
        [1.0, 2.0],
        (tone(), "x"),
        (tone(), 0.5),
        3,
        None,
        tone(),
        [(tone(), 8000), (tone(seconds=1), 8000)],
        [[1, 2], [3]],
    ],
)
def test_nothing_else_is_taken_for_a_sound(given):
    try:
        assert as_waveform(given) is None
    except (TypeError, ValueError):
        pytest.fail("as_waveform raises on what is no sound")


# ------------------------------------------------------------------------------------------------------- a whole folder


def put(folder, name, data):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def looked_at(folder, cache):
    dataset = open_dataset(folder)
    look = AudioLook()
    survey = look.survey(dataset, cache)
    return dataset, survey, audit(dataset, survey)


@pytest.fixture
def calls(tmp_path):
    """Two classes of ten tones each, of several lengths."""
    folder = tmp_path / "calls"
    for i in range(20):
        name = "high" if i % 2 else "low"
        hz = (1500 if i % 2 else 300) * (1 + i / 50)
        put(folder, f"{name}/{i:02}.wav", wav(tone(hz, 0.4 + 0.07 * i, seed=i)))
    return folder


def test_a_folder_of_sounds_is_known_by_what_is_in_it(calls, tmp_path):
    put(calls, "high/readme.txt", b"how these were made")
    put(calls, "low/without-extension", wav(tone(seconds=3)))
    dataset, survey, found = looked_at(calls, tmp_path / "cache")
    assert dataset.modality == "audio" and found.counts == {"high": 10, "low": 11}
    assert found.skipped == {"not a sound": 1} and survey.usable.all()


def test_mixed_rates_and_channels_are_counted_and_said(calls, tmp_path):
    put(calls, "high/stereo.wav", wav(np.tile(tone(900, 0.9, 44_100)[:, None], 2), 44_100))
    _, _, found = looked_at(calls, tmp_path / "cache")
    said = [f.text for f in found.findings if f.code == "AU64"]
    assert any("20 at 16,000 Hz, 1 at 44,100 Hz" in text for text in said)
    assert any("1 of 21 sounds has several channels" in text for text in said)
    assert found.modes["44,100 Hz, 2 channels, WAV PCM_16"] == 1


def test_a_second_look_decodes_nothing_and_sees_the_same(calls, tmp_path):
    put(calls, "high/broken.wav", b"RIFF????WAVE")
    first, second = (looked_at(calls, tmp_path / "cache") for _ in range(2))
    assert first[1].decoded == 21 and second[1].decoded == 0
    assert first[2] == second[2] and first[2].quarantined[0].code == "AU60"


def test_copies_of_another_encoding_and_loudness_are_found_and_others_are_not(calls, tmp_path):
    again = tone(300, 0.4, seed=0)
    put(calls, "low/copy.flac", encoded(again, kind="FLAC"))
    put(calls, "low/quiet.wav", wav(0.3 * again))
    put(calls, "low/telephone.wav", encoded(again, subtype="ULAW"))
    _, _, found = looked_at(calls, tmp_path / "cache")
    assert [set(c.ids) for c in found.clusters] == [
        {"low/00.wav", "low/copy.flac", "low/quiet.wav", "low/telephone.wav"}
    ]


def test_the_format_that_gives_the_class_away_is_told(tmp_path):
    for i in range(24):
        rate = 16_000 if i % 2 else 8000
        put(tmp_path / "d", f"{'ab'[i % 2]}/{i}.wav", wav(tone(300 + 40 * i, 0.3 + 0.03 * i, rate, seed=i), rate))
    _, _, found = looked_at(tmp_path / "d", tmp_path / "cache")
    assert any("the sample rate alone tells the class of 100%" in f.text for f in found.findings if f.code == "DA38")


def test_speakers_on_both_sides_of_a_split_are_warned_of(tmp_path):
    for speaker in range(4):
        for i in range(6):
            side = "train" if i < 4 else "test"
            name = f"{side}/{'ab'[i % 2]}/s{speaker}_{i}.wav"
            put(tmp_path / "d", name, wav(tone(200 + 97 * speaker + 31 * i, 0.3 + 0.05 * i, seed=speaker)))
    _, _, found = looked_at(tmp_path / "d", tmp_path / "cache")
    assert any("4 of 4 beginnings of file names" in f.text for f in found.findings if f.code == "DA43")


def test_numbered_series_ask_for_groups(tmp_path):
    for speaker in range(6):
        for i in range(4):
            name = f"{'ab'[i % 2]}/anna{speaker}_{i}.wav"
            put(tmp_path / "d", name, wav(tone(200 + 97 * speaker + 31 * i, 0.3 + 0.05 * i, seed=speaker)))
    _, _, found = looked_at(tmp_path / "d", tmp_path / "cache")
    assert any("if a series is of one speaker" in f.text and "--group-by" in f.text for f in found.findings)


def test_a_table_a_frame_and_a_list_of_sounds_are_read_as_sounds(calls, tmp_path):
    import pandas

    names = sorted(p.relative_to(calls).as_posix() for p in calls.rglob("*.wav"))
    labels = [n.split("/")[0] for n in names]
    (calls / "all.csv").write_text("\n".join(["recording,label", *map(",".join, zip(names, labels, strict=True))]))
    frame = pandas.DataFrame({"path": [str(calls / n) for n in names], "label": labels})
    inline = pandas.DataFrame(
        {"audio": [{"bytes": (calls / n).read_bytes(), "path": n} for n in names], "label": labels}
    )
    arrays = pandas.DataFrame(
        {"audio": [{"array": tone(200 + i), "sampling_rate": 16_000} for i in range(6)], "label": labels[:6]}
    )
    paths = [calls / n for n in names]
    for source, y in ((calls / "all.csv", None), (frame, None), (inline, None), (arrays, None), (paths, labels)):
        dataset = open_dataset(source, y=y)
        assert dataset.modality == "audio" and set(dataset.targets) <= {"high", "low"}
        assert dataset[0].value.rate_hz == 16_000
    pairs = [(tone(200 + 10 * i), 16_000) for i in range(4)]
    assert open_dataset(pairs, y=["a", "b"] * 2).modality == "audio"
