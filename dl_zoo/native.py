"""The size that a dataset's pictures have by themselves, before any net asks for another. No torch."""

from typing import Any


def own_size(data: Any) -> int:
    """In pixels: of the pictures before they are fitted. Digits are 8 wide and enlarged, MNIST's 28 and padded.

    Of folders: the size at which their pictures are decoded. Else what the dataset's own YAML states.
    """
    from dl_zoo import options
    from dl_zoo.data.image_folder import ImageFolder

    if isinstance(data, ImageFolder):
        return data.resize or data.image_size or 0
    target = f"{type(data).__module__}.{type(data).__qualname__}"
    for name in options.names("data"):
        stated = options.read("data", name)
        if stated["_target_"] == target:
            return int(stated["dims"]["image_size"])
    return int(data.image_size or data.dims["image_size"])  # data of one's own
