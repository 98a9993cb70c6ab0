"""From what the user typed to a model on this disk: a path, a hub id, or nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from zellige.diagnostics import ZelligeError
from zellige.llm.default_model import default_model

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w./-]+)?")
_PREFERRED = (
    "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "BF16", "F16", "F32",
)  # fmt: skip
"""Of several GGUF files in one repository, by what is in their names: mixes of the K formats have names of their own."""
_FOLDER_FILES = [
    "*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer*.json", "*generation_config.json", "chat_template.jinja",
]  # fmt: skip


def resolve_model(
    model: str | os.PathLike[str] | None,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Path:
    """A `.gguf` file or a folder in Hugging Face's layout for `model`, fetched where needed.

    None is the default model. "owner/name" is a hub repository, "owner/name:Q8_0" or "owner/name:file.gguf" one file
    of it. Errors: ZL0601 (no such file), ZL0801 to ZL0807.
    """
    if model is None:
        return default_model(say=say, progress=progress)
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise ZelligeError(
            "ZL0601",
            f"{model!r} names no model",
            help="give the path of a .gguf file, a hub id such as owner/name, or nothing for the default model",
        )
    path = Path(os.path.expanduser(model))
    if os.path.exists(path):  # False, too, where nobody may look, or where the name is none
        return _in_folder(path) if path.is_dir() else path
    text = os.fspath(model)
    looks_like_file = path.suffix.lower() == ".gguf" and ":" not in text
    if looks_like_file or not _HUB_ID.fullmatch(text):
        raise ZelligeError(
            "ZL0601",
            f"there is no model file {text}",
            facts={"looked in": str(path.absolute().parent)},
            help="give the path of a .gguf file, a hub id such as owner/name, or nothing for the default model",
        )
    repository, _, wanted = text.partition(":")
    say(f"looking for {text} on the hub")
    return _from_hub(repository, wanted)


def _in_folder(folder: Path) -> Path:
    """The folder itself where it has a `config.json`, else its only GGUF file."""
    if (folder / "config.json").exists():
        return folder
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    raise ZelligeError(
        "ZL0601",
        f"the folder {folder} holds {'several GGUF files' if files else 'no model'}",
        facts={"GGUF files": ", ".join(file.name for file in files) or "none", "config.json": "missing"},
        help="give the path of one .gguf file, or of a folder with config.json and safetensors",
    )


def _from_hub(repository: str, wanted: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ZelligeError(
            "ZL0806",
            f"fetching {repository} needs the package huggingface_hub",
            help="pip install 'zellige[hub]'; or give the path of a model file",
        ) from None
    try:
        cached = huggingface_hub.snapshot_download(repository, allow_patterns=["config.json"], local_files_only=True)
    except (errors.LocalEntryNotFoundError, OSError, ValueError):
        cached = None
    try:
        files = huggingface_hub.list_repo_files(repository)
        name = choose_gguf(files, wanted, repository)
        if name is not None:
            return Path(huggingface_hub.hf_hub_download(repository, name))
        if "config.json" not in files or not any(file.endswith(".safetensors") for file in files):
            raise ZelligeError(
                "ZL0807",
                f"{repository} has no model in a format that is read here",
                facts={
                    "files": ", ".join(sorted(files)[:12]) or "none",
                    "wanted": "*.gguf, or config.json and *.safetensors",
                },
                help="look for a repository of the same model with one of these",
            )
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=_FOLDER_FILES))
    except errors.RepositoryNotFoundError:
        raise ZelligeError(
            "ZL0807",
            f"the hub has no model {repository} that you can read",
            help="check the spelling; for a private or gated model, log in with `hf auth login`",
        ) from None
    except ZelligeError:
        raise
    except Exception as error:  # the hub's client passes on what its transport raises, which differs by version
        if cached is not None:
            return _cached(Path(cached), wanted, repository)
        raise ZelligeError(
            "ZL0802",
            f"cannot fetch {repository} from the hub: {(str(error).splitlines() or ['no answer'])[0][:200]}",
            help="check the network and run the same command again; or give the path of a model file",
        ) from error


def _cached(snapshot: Path, wanted: str, repository: str) -> Path:
    """What an earlier run left of a repository, for use without a network."""
    files = [str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()]
    name = choose_gguf(files, wanted, repository)
    return snapshot if name is None else snapshot / name


def choose_gguf(files: list[str], wanted: str, repository: str) -> str | None:
    """Which GGUF file to take: the one asked for, by name or quantisation, else the best supported; None without any.

    Error ZL0807: the one asked for is not there, or none has a supported quantisation.
    """
    candidates = sorted(file for file in files if file.lower().endswith(".gguf"))
    if not candidates and not wanted:
        return None
    for kind in (wanted,) if wanted else _PREFERRED:
        exact = [file for file in candidates if file == kind]
        matching = [
            file for file in candidates if re.search(rf"(^|[^A-Z0-9]){re.escape(kind.upper())}[^A-Z0-9_]", file.upper())
        ]
        if exact or matching:
            return (exact or matching)[0]
    raise ZelligeError(
        "ZL0807",
        f"{repository} has no GGUF file {'for ' + wanted if wanted else 'in a supported quantisation'}",
        facts={"GGUF files": ", ".join(candidates[:12]) or "none", "supported": ", ".join(_PREFERRED)},
        help="name one of them: owner/name:file.gguf",
    )
