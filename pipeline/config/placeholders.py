"""Paths that follow from an image: its folder, its name, a part of its name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.names import stem_of
from pipeline.errors import ConfigError, SourceError
from pipeline.system import yaml_files
from pipeline.system.paths import describe, is_address, kind_of

_PLACEHOLDER = re.compile(
    r"\{(?P<word>folder|stem)"
    r"(?::(?P<first>-?\d*)(?::(?P<last>-?\d*))?|/(?P<pattern>[^/]*)/(?P<put>[^/{}]*))?\}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathResolver:
    r"""Makes the paths of one file absolute; `${NAME}` is an environment variable.

    With an image, `{folder}` is its folder and `{stem}` its name without suffixes; `{stem:-3}` is that without its last
    three letters, `{stem:6}` its first six, `{stem:2:6}` those between; `{stem/PATTERN/TEXT}` replaces what a regular
    expression finds.

    >>> resolve = PathResolver(base="/data", stem="sub-01_T1w", folder="/data/sub-01/anat")
    >>> resolve("{folder}/{stem:-4}_roi.nii"), resolve(r"{stem/_T\dw$/}.nii")
    ('/data/sub-01/anat/sub-01_roi.nii', '/data/sub-01.nii')
    """

    base: str
    stem: str = ""
    folder: str = ""
    files_only: bool = False
    """Folders (but zarr), named pipes and devices are refused: the path is that of a mask."""

    def __call__(self, text: str) -> str:
        """Return an absolute path; URLs are left alone.

        Raises:
            ConfigError: as `absolute`.
            SourceError: there is something that is no file, or no file, and the text tells why.
        """
        path = self.absolute(text)
        if not self.files_only or is_address(path):
            return path
        what = kind_of(path)
        if what == "special" or (what == "folder" and not path.endswith(".zarr")):
            raise SourceError(f"{path}: is {describe(path)}, no mask file; give a file")
        if not what and (missed := self.missed(text)):
            raise SourceError(f"{path}: mask file not found; {missed}")
        if not what and self.folder and kind_of(self.absolute(f"{{folder}}/{text}")) == "file":
            raise SourceError(
                f"{path}: mask file not found, but the folder of the image has it: write '{{folder}}/{text}'"
            )
        return path

    def absolute(self, text: str) -> str:
        """Return what `__call__` does, whatever is there.

        Raises:
            ConfigError: an environment variable is not set, there is no such user or no image that a placeholder could
                mean, or it can be no path.
        """
        # the image's own name is no text of the user's: nothing in it is a variable
        named = _PLACEHOLDER.sub(self._value, yaml_files.expand_environment(text, self.base))
        return named if is_address(named) else os.path.normpath(Path(self.base) / named)

    def missed(self, text: str) -> str:
        r"""Return which `{stem/PATTERN/TEXT}` replaces nothing in the image's name, for messages; empty if none.

        >>> PathResolver(base="/data", stem="scene_B4").missed("{stem/_B5/_B6}.tif")
        "{stem/_B5/_B6} replaces nothing, as '_B5' is not in the image's name 'scene_B4'"
        """
        for match in _PLACEHOLDER.finditer(text):
            if self.stem and match["pattern"] and not re.search(match["pattern"], self.stem):
                return f"{match[0]} replaces nothing, as '{match['pattern']}' is not in the image's name '{self.stem}'"
        return ""

    def _value(self, match: re.Match[str]) -> str:
        if not self.stem:
            raise ConfigError(
                f"{self.base}: '{match.string}': '{match[0]}' stands for a part of an image's path, and this is "
                "the path of the image itself; write it out, or rename a file that is called like this"
            )
        if match["word"] == "folder":
            if match[0] != "{folder}":
                raise ConfigError(f"'{match[0]}': only a name can be cut; write '{{folder}}'")
            return self.folder
        if match["pattern"] is not None:
            try:
                return re.sub(match["pattern"], match["put"], self.stem)
            except (re.error, IndexError) as error:
                raise ConfigError(f"'{match[0]}' is no regular expression ({error})") from None
        if match["first"] is None:
            return self.stem
        bounds = [match["first"]] if match["last"] is None else [match["first"], match["last"]]
        return self.stem[slice(*(int(n) if n not in ("", "-") else None for n in bounds))]


def resolver_of(paths: Sequence[str], base: str, *, files_only: bool = False) -> PathResolver:
    """Return the resolver of paths that follow from an image.

    Raises:
        ConfigError: a URL of the image cannot be read as one.
    """
    folder = paths[0].partition("?")[0].rpartition("/")[0] if "://" in paths[0] else str(Path(paths[0]).parent)
    return PathResolver(base=base, stem=stem_of(tuple(paths)), folder=folder, files_only=files_only)
