"""A textbook of deep learning that runs.

`list_models`, `create_model`, `create_module` and `load_run` are the Python interface; `dl_zoo.compose.compose` and
`dl_zoo.run.run` are what the command line calls. Importing this package imports neither torch nor Lightning.
"""

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dl_zoo.zoo import Run, create_model, create_module, list_models, load_run

__all__ = ["Run", "create_model", "create_module", "list_models", "load_run"]
__version__ = "0.1.0"

warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, in a notebook: the bars here are not its own


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dl_zoo import zoo

        return getattr(zoo, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
