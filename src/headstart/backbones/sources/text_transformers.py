"""transformers: encoders of texts, from a local folder, a pip package or the hub. Remote code is never run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headstart.backbones.sources.transformers import DROPPED, check_plain, config_of, quiet
from headstart.base.errors import DataError, listed, shown
from headstart.base.files import parse_json, read_json
from headstart.inputs.spec import InputSpec, TextSpec
from headstart.inputs.text import digest

if TYPE_CHECKING:
    from torch import Tensor, nn

# Encoders that read a whole text at once and give a vector for each token.
KINDS = (
    *("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "modernbert", "deberta-v2", "electra", "mpnet"),
    *(
        "albert",
        "ernie",
        "nomic_bert",
        "eurobert",
        "xlm",
        "funnel",
        "convbert",
        "mobilebert",
        "layoutlm",
        "data2vec-text",
    ),
)
Pooling = Literal["mean", "cls"]
LONGEST = 512  # tokens, where the folder does not say what the network was trained with
_LARGEST_TOKENIZER = 64 * 2**20
_OURS = "headstart_pooling"


@dataclass(frozen=True)
class TextArchitecture:
    """An encoder of transformers: its kind (model_type), the settings that differ from the defaults, and its tokenizer.

    pooling: 'mean' over the tokens, or 'cls', the first one.
    """

    name: str
    settings: tuple[tuple[str, Any], ...]
    pooling: Pooling
    tokenizer: str = field(repr=False)  # content of tokenizer.json

    @property
    def opens_with(self) -> str:
        return "transformers"

    def build(self, classes: int) -> nn.Module:
        """The encoder; with classes, a linear layer called 'classifier' stands beside it and is used by nobody.

        transformers' own classifiers put a dense layer and a tanh before theirs, so none of them is this model.
        """
        import torch
        from transformers import AutoModel

        config = self._config()
        kind: Any = AutoModel._model_mapping[type(config)]
        without = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        network = AutoModel.from_config(config, trust_remote_code=False, **without)
        network.loss_type = "ForSequenceClassification"  # never used; without one, a tracer that looks at it warns
        if classes:
            network.classifier = torch.nn.Linear(config.hidden_size, classes)
        return network

    def features(self, network: nn.Module, tokens: Tensor) -> Tensor:
        """(B, D) from (B, L) token numbers, -1 where a text has ended."""
        import torch

        is_there = tokens >= 0
        padding = self._padding(network)
        ids = torch.where(is_there, tokens, torch.full_like(tokens, padding)).long()
        states = network(input_ids=ids, attention_mask=is_there.long()).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        # In float32 whatever the network's precision: sums over hundreds of tokens lose bits otherwise.
        weights = is_there.unsqueeze(-1).float()
        return ((states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).to(states.dtype)

    def _padding(self, network: Any) -> int:
        number = network.config.pad_token_id
        return number if isinstance(number, int) and number >= 0 else 0

    def config(self, spec: InputSpec, labels: Sequence[str], feature_dim: int) -> dict[str, Any]:
        """config.json of a transformers model folder; AutoModel opens it as the encoder."""
        names = {str(i): label for i, label in enumerate(labels)}
        return {
            **dict(self.settings),
            "model_type": self.name,
            "architectures": [self._class_name()],
            "id2label": names,
            "label2id": {label: int(i) for i, label in names.items()},
            _OURS: self.pooling,
        }

    def companions(self, spec: InputSpec) -> dict[str, dict[str, Any] | str]:
        """tokenizer.json as it was read, and what AutoTokenizer needs beside it."""
        assert isinstance(spec, TextSpec), "an encoder of texts"
        return {"tokenizer.json": self.tokenizer, "tokenizer_config.json": self._tokenizer_config(spec)}

    def _tokenizer_config(self, spec: TextSpec) -> dict[str, Any]:
        pad = _special(self.tokenizer).get(self._config().pad_token_id)
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": spec.window,
            **({"pad_token": pad} if pad else {}),
        }

    def native_names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``tensors`` under the names of this version's network; transformers 5 renamed layers that files still use.

        What the network lacks keeps its name, what the file lacks is left out: load_into judges both.
        """
        with quiet():
            network: Any = self.build(0)
            kind: Any = type(network)
            loaded, report = kind.from_pretrained(
                None, config=self._config(), state_dict=dict(tensors), output_loading_info=True
            )
        places = network.state_dict()
        absent = set(report["missing_keys"]) | {key[0] for key in report["mismatched_keys"]}
        filled = {name: t for name, t in loaded.state_dict().items() if name in places and name not in absent}
        return filled | {n: tensors[n] for n in report["unexpected_keys"] if n in tensors}

    def _class_name(self) -> str:
        import torch

        with torch.device("meta"):
            return type(self.build(0)).__name__

    def _config(self) -> Any:
        return config_of(self.name, self.settings)


@lru_cache(maxsize=4)
def _special(tokenizer: str) -> dict[Any, str]:
    """Number → special token of a tokenizer.json."""
    content = parse_json(tokenizer, where="tokenizer.json")
    added = content.get("added_tokens") or [] if isinstance(content, Mapping) else None
    if not isinstance(added, list) or not all(
        isinstance(t, Mapping) and isinstance(t.get("content"), str) for t in added
    ):
        raise DataError("CK24 tokenizer.json cannot be read: its added_tokens are no list of tokens.")
    return {token.get("id"): token["content"] for token in added}


def is_text(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in KINDS


def architecture_from(
    config: Mapping[str, Any], tokenizer: str, *, where: str, pooling: Pooling = "mean"
) -> TextArchitecture:
    """The architecture that a config.json describes. Refused CF20 where it asks for code; DataError for other kinds.

    pooling: where config.json does not say it, as folders that headstart saved do.
    """
    kind = config.get("model_type")
    check_plain(config, where)
    if kind not in KINDS:
        raise DataError(f"{where}: model_type '{shown(kind)}' is not one that is read here ({listed(KINDS, 99)}).")
    settings = {k: v for k, v in config.items() if k not in DROPPED and not k.startswith("_") and k != _OURS}
    stated = config.get(_OURS, pooling)
    if stated not in ("mean", "cls"):
        raise DataError(f"{where}: pooling '{shown(stated)}' is not one that is done here (mean, cls).")
    return TextArchitecture(str(kind), tuple(sorted(settings.items())), stated, tokenizer)


def opened(folder: Path, *, window: int | None = None, prefix: str = "") -> tuple[TextArchitecture, TextSpec]:
    """What a model folder describes, as transformers and sentence-transformers write it."""
    where = shown(folder / "config.json")
    config = read_json(folder / "config.json")
    tokenizer = tokenizer_of(folder)
    architecture = architecture_from(config, tokenizer, where=where, pooling=_pooling(folder))
    spec = TextSpec(digest(tokenizer), window or _window(folder, config), prefix or _prefix(folder))
    return architecture, spec


def tokenizer_of(folder: Path) -> str:
    """Content of tokenizer.json; from the older vocabulary files where transformers can convert them."""
    path = folder / "tokenizer.json"
    if path.is_file():
        if path.stat().st_size > _LARGEST_TOKENIZER:
            raise DataError(f"{shown(path)} is larger than 64 MiB. Refused.")
        try:
            return path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{shown(path)} is not UTF-8: it is damaged.") from error
    if not any(
        (folder / name).is_file() for name in ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spm.model")
    ):
        raise DataError(
            f"{shown(folder)} has no tokenizer.json, so its texts cannot be read. Save the tokenizer beside the model: "
            "tokenizer.save_pretrained(FOLDER)."
        )
    from transformers import AutoTokenizer

    with quiet():
        try:
            converted: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return str(converted.backend_tokenizer.to_str())
        except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
            raise DataError(
                f"{shown(folder)}: its tokenizer cannot be converted ({type(error).__name__}: {shown(error)[:160]}). "
                "Save it as tokenizer.json with a recent transformers."
            ) from error


def _beside(folder: Path, name: str) -> Mapping[str, Any]:
    path = folder / name
    values = read_json(path) if path.is_file() else {}
    return values if isinstance(values, Mapping) else {}


def _pooling(folder: Path) -> Pooling:
    """As sentence-transformers writes it; the mean where nothing is said."""
    return "cls" if _beside(folder, "1_Pooling/config.json").get("pooling_mode_cls_token") is True else "mean"


def _window(folder: Path, config: Mapping[str, Any]) -> int:
    """Tokens: what sentence-transformers wrote, else what network and tokenizer allow, at most LONGEST."""
    stated = _beside(folder, "sentence_bert_config.json").get("max_seq_length")
    limits = [LONGEST if not isinstance(stated, int) else stated]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int):
        # RoBERTa and its kin count positions from the padding token on, and lose two that way.
        lost = 2 if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text") else 0
        limits.append(positions - lost)
    allowed = _beside(folder, "tokenizer_config.json").get("model_max_length")
    if isinstance(allowed, int) and 0 < allowed < 10**6:
        limits.append(allowed)
    return max(4, min(limits))


def _prefix(folder: Path) -> str:
    """The default prompt of sentence-transformers; '' where there is none."""
    stated = _beside(folder, "config_sentence_transformers.json")
    prompts, name = stated.get("prompts"), stated.get("default_prompt_name")
    prefix = prompts.get(name) if isinstance(prompts, Mapping) and name else ""
    return prefix if isinstance(prefix, str) else ""
