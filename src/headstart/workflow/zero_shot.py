"""Answers from the names of the classes alone: no example is learnt from.

A text encoder puts a text and the name of its topic close together, an image-text model a picture and its caption.
Each class is the mean direction of its prompts and descriptions; an example belongs to the class whose direction makes
the largest cosine with its own. Names go through the same extraction and cache as any other texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.adapt.heads.named import unit
from headstart.base.errors import DataError, PlanError, did_you_mean, listed, shown
from headstart.base.files import read_json
from headstart.base.progress import QUIET, Observer, Said
from headstart.records.predictions import Predictions
from headstart.tasks.classification import Classification
from headstart.tasks.task import Task
from headstart.workflow.config import DataConfig, cache_folder
from headstart.workflow.predict import Predicted, as_asked
from headstart.workflow.reading import look_of, read

if TYPE_CHECKING:
    from headstart.backbones.backbone import Backbone

BACKBONE = "package/minilm-l6"
# On 952 captions of 16 topics the sentence was right in 0.04 more than the bare name (MiniLM), and in 0.02 (E5).
TEXT_PROMPT, IMAGE_PROMPT = "This text is about {}.", "a photo of a {}"
# Cosines are divided by it. Encoders of sentences are trained with 0.05 (sentence-transformers' scale of 20) …
TEMPERATURE = 0.05
# … those of the E5 family with 0.01 (Wang et al. 2022, arXiv:2212.03533, section 3); image-text models state theirs.
TRAINED_WITH = {"package/e5-small": 0.01}
COLDEST, HOTTEST = 1e-3, 10.0
HONEST = (
    "confidence is softmax(cosine / {:.3g}) and not calibrated: no label was seen, so nobody knows how often it is "
    "right. With a few labels of each class 'headstart fit' tells"
)
_NO_WORD = re.compile(r"[\W\d_]*[A-Za-z]?[\W\d_]*|(class|label|category|cls|c|l)[\W_]*\d+", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """A predictor that was made from names.

    labels: the K classes.  texts: what was embedded for each.  vectors: (K, D) float64 of length one.
    temperature: probabilities are softmax(cosine / temperature).  They are not calibrated.
    """

    backbone: Backbone
    labels: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    vectors: np.ndarray
    temperature: float
    cache: Path
    device: str = "auto"

    def __repr__(self) -> str:
        return f"ZeroShot({self.backbone.card.name}, {len(self.labels)} classes, temperature {self.temperature:.3g})"

    def __call__(self, value: Any) -> dict[str, float]:
        """Label → probability for one example, largest first. DataError if it cannot be read."""
        scores = self.predict([value]).predictions.scores[0]
        return {self.labels[k]: float(scores[k]) for k in np.argsort(-scores, kind="stable")}

    def predict(
        self,
        data: Any,
        *,
        out: str | Path | None = None,
        config: DataConfig | None = None,
        observer: Observer = QUIET,
    ) -> Predicted:
        """Predict every example in ``data`` (folder, table, list, one path); labels in it are not looked at.

        out: CSV file to write, as ``headstart.predict`` does.  DataError if not one example can be used.
        """
        from headstart.bundle.csv import write_predictions_csv
        from headstart.features.extract import extract

        config = config or DataConfig()
        if out is not None and Path(out).is_dir():
            raise DataError(f"EN66 {shown(out)} is a folder; --out needs the name of a CSV file.")
        modality = self.backbone.card.modality
        if modality == "text" and isinstance(data, list | tuple) and config.text is None:
            config = replace(config, text="")  # strings for a network that reads texts are no paths
        dataset = read(as_asked(data, modality), None, config)
        look = look_of(dataset, config)
        features = extract(self.backbone, dataset, cache=self.cache, device=self.device, look=look, observer=observer)
        predictions = self.predict_features(features.X)
        predictions = replace(predictions, ids=np.asarray([dataset.ids[row] for row in features.survey.rows], object))
        problems = tuple(features.survey.problems[row] for row in sorted(features.survey.problems))
        observer(Said(HONEST.format(self.temperature)))
        if out is not None:
            write_predictions_csv(Path(out), predictions, problems)
        return Predicted(predictions, problems)

    def predict_features(self, X: np.ndarray) -> Predictions:
        """Scores for (N, D) features of the same network; ids are row numbers."""
        logits = unit(X) @ self.vectors.T / self.temperature
        ids = np.array([str(i) for i in range(len(X))], object)
        task = Classification(self.labels)
        return Predictions(ids, task.decode(logits), None, self.labels, task.name, logits)


def zero_shot(
    classes: Sequence[str],
    *,
    backbone: str = BACKBONE,
    descriptions: Mapping[str, str | Sequence[str]] | None = None,
    prompts: Sequence[str] = (),
    temperature: float | None = None,
    cache: str | Path | None = None,
    device: str = "auto",
    offline: bool = False,
    observer: Observer = QUIET,
) -> ZeroShot:
    """A predictor for ``classes`` that has seen no example: names, and what you say about them, through the network.

    classes: at least two different names in words.  backbone: a text encoder, or an image-text model as a local
    transformers folder (``file:FOLDER`` of CLIP or SigLIP).
    descriptions: class → one sentence or several about it, beside its name.
    prompts: sentences with {} where the name goes; several are averaged. None given: 'This text is about {}.' or 'a
    photo of a {}'.  temperature: not given: the one the network was trained with.
    DataError for names, prompts or descriptions that make no sense; PlanError PL84 for a network that reads no names.
    """
    from headstart.backbones.catalogue import catalogue

    names = _checked_names(classes)
    network = catalogue.load(backbone, offline=offline)
    reader = reader_of(network)
    texts = texts_of(names, descriptions or {}, prompts or default_prompts(network.card.modality))
    vectors = class_vectors(reader.network, texts, cache=cache_folder(cache), device=device, observer=observer)
    return ZeroShot(
        backbone=network,
        labels=names,
        texts=texts,
        vectors=vectors,
        temperature=reader.temperature if temperature is None else _checked_temperature(temperature),
        cache=cache_folder(cache),
        device=device,
    )


# --- names to directions


@dataclass(frozen=True, eq=False)
class Reader:
    """What reads class names into the space of another network's features. temperature: of its training."""

    network: Backbone
    temperature: float


def find_reader(network: Backbone) -> Reader | None:
    """The network itself where it reads texts, the other tower of an image-text model; None for all others."""
    from headstart.backbones.sources.image_text import ImageTower, text_tower

    if network.card.modality == "text":
        return Reader(network, TRAINED_WITH.get(network.card.name, TEMPERATURE))
    if isinstance(network.architecture, ImageTower) and Path(network.card.weights.where).is_dir():
        return Reader(*text_tower(Path(network.card.weights.where), network.card.name))
    return None


def reader_of(network: Backbone) -> Reader:
    """PlanError PL84 where nothing reads names for ``network``."""
    found = find_reader(network)
    if found is not None:
        return found
    raise PlanError(
        f"PL84 {shown(network.card.name)} reads no names: it has learnt {network.card.modality} features without "
        "words. Zero-shot takes a text encoder (package/minilm-l6), or for pictures an image-text model such as CLIP "
        "or SigLIP as a local transformers folder: file:FOLDER."
    )


def names_of(
    task: Task, network: Backbone, *, cache: Path, device: str = "auto", observer: Observer = QUIET
) -> np.ndarray | None:
    """(K, D) directions of the task's class names among the network's features; None where names say nothing to it.

    An image-text model whose text half is not whole is still a network for pictures: that is said, and no more.
    """
    if task.name != "classification" or not are_words(task.labels):
        return None
    try:
        reader = find_reader(network)
    except DataError as problem:
        observer(Said(f"class names are not read: {problem}", "warning"))
        return None
    if reader is None:
        return None
    texts = texts_of(task.labels, {}, default_prompts(network.card.modality))
    return class_vectors(reader.network, texts, cache=cache, device=device, observer=observer)


def names_read_by(network: Backbone, task: Task) -> np.ndarray:
    """names_of by a network for texts that was trained here; nothing of it is kept."""
    from headstart.features.choose import float32_features
    from headstart.features.feeds import feed_for

    texts = [first for first, *_ in texts_of(task.labels, {}, default_prompts(network.card.modality))]
    return unit(float32_features(network, [example.array for example in feed_for(network).prepare(texts)]))


def default_prompts(modality: str) -> tuple[str, ...]:
    return (IMAGE_PROMPT,) if modality == "image" else (TEXT_PROMPT,)


def texts_of(
    names: Sequence[str], descriptions: Mapping[str, str | Sequence[str]], prompts: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """What stands for each class: its name in every prompt, then its descriptions.

    DataError ZS12 for a description of no class or of nothing, ZS13 for a prompt without one place for the name.
    """
    wrong = [p for p in prompts if p.count("{}") != 1]
    if wrong:
        raise DataError(f"ZS13 prompt '{shown(wrong[0])}': {{}} must stand in it once, where the name of a class goes.")
    for name in descriptions:
        if name not in names:
            raise DataError(
                f"ZS12 descriptions: '{shown(name)}' is none of the classes.{did_you_mean(name, names)} "
                f"There are: {listed(names)}."
            )
    found = []
    for name in names:
        said = descriptions.get(name, ())
        extra = [said] if isinstance(said, str) else list(said)
        if not all(isinstance(text, str) and text.strip() for text in extra):
            raise DataError(f"ZS12 descriptions: what is said of '{shown(name)}' is not one text or a list of texts.")
        found.append((*(p.replace("{}", spoken(name)) for p in prompts), *(text.strip() for text in extra)))
    return tuple(found)


def class_vectors(
    reader: Backbone,
    texts: Sequence[Sequence[str]],
    *,
    cache: Path,
    device: str = "auto",
    observer: Observer = QUIET,
) -> np.ndarray:
    """(K, D) float64 of length one: the mean direction of each class's texts, by a network that reads texts."""
    from headstart.features.extract import extract

    every = list(dict.fromkeys(text for of_class in texts for text in of_class))
    dataset = read(every, None, DataConfig(text="names"))
    # A few short texts: another runner would take longer to be made than float32 takes for all of them.
    features = extract(
        reader,
        dataset,
        cache=cache,
        device=device,
        only_runner="torch-f32",
        observer=observer,
        what="reading the class names",
    )
    if features.survey.problems:
        bad = next(iter(features.survey.problems.values()))
        raise DataError(f"ZS11 '{shown(every[int(bad.id)])}' cannot be read as a name: {bad.code} {shown(bad.reason)}.")
    directions = unit(features.X)
    place = {text: row for row, text in enumerate(every)}
    return unit(np.stack([directions[[place[text] for text in of_class]].mean(axis=0) for of_class in texts]))


def spoken(name: str) -> str:
    """'local_defect', 'LocalDefect' and 'local-defect' as people say them; words stay as they are."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip())
    return re.sub(r"[_\-/\\.]+", " ", parted).strip() or name


def are_words(names: Sequence[str]) -> bool:
    """Whether names say what they stand for: none is a number, a single Latin letter, or 'class 3'."""
    return not any(_NO_WORD.fullmatch(name.strip()) for name in names)


def _checked_names(classes: Sequence[str]) -> tuple[str, ...]:
    """DataError ZS10 unless there are two different names at least, all of them words."""
    names = tuple(name.strip() if isinstance(name, str) else name for name in classes)
    if any(not isinstance(name, str) or not name for name in names):
        raise DataError("ZS10 a class without a name: give each class a word, 'sports,politics,science'.")
    repeated = [n for i, n in enumerate(names) if n.casefold() in {m.casefold() for m in names[:i]}]
    if repeated:
        raise DataError(f"ZS10 class '{shown(repeated[0])}' is named twice.")
    if len(names) < 2:
        raise DataError(f"ZS10 {len(names)} class named; at least two are told apart. Part them by commas.")
    if not are_words(names):
        odd = [f"'{n}'" for n in names if not are_words([n])]
        raise DataError(
            f"ZS10 {listed(odd)} says nothing to a network that reads names. Name the classes in "
            "words, or learn from labelled examples: headstart fit"
        )
    return names


def _checked_temperature(given: float) -> float:
    if not COLDEST <= given <= HOTTEST:
        raise DataError(f"ZS14 temperature is {given:g}; cosines are divided by it: from {COLDEST:g} to {HOTTEST:g}.")
    return given


# --- as users write them


def names_in(words: str) -> list[str]:
    """'sports, politics' as a list."""
    return [word.strip() for word in words.split(",")]


def read_descriptions(path: str | Path) -> dict[str, str | list[str]]:
    """Class → sentences from a .json object, or from lines 'name: description' (a name may come again).

    DataError ZS12 with the line that is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        found = read_json(path)
        if not isinstance(found, Mapping):
            raise DataError(f"ZS12 {shown(path)}: not an object of class names and what is said of them.")
        return dict(found)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"ZS12 {shown(path)} cannot be read as lines of UTF-8: {shown(error)[:120]}.") from error
    said: dict[str, str | list[str]] = {}
    for number, line in enumerate(lines, start=1):
        name, colon, text = (part.strip() for part in line.partition(":"))
        if not name and not text:
            continue
        if not (name and colon and text):
            raise DataError(f"ZS12 {shown(path)}, line {number}: '{shown(line)[:60]}' is not 'name: description'.")
        said[name] = [*said.get(name, ()), text]
    return said
