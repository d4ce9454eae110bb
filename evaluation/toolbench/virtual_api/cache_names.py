"""Finds where the answers of one API are recorded, from the names as clients send them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from evaluation.toolbench.names import change_name, is_plain_file_name, standardize, standardize_category


@dataclass(frozen=True, slots=True)
class RecordName:
    """Holds the three names that lead to a file of recorded answers: `<category>/<tool>/<api>.json`."""

    category: str
    tool: str  # always ends in "_for_<category>"
    api: str

    @classmethod
    def of_request(cls, category: str, tool_name: str, api_name: str) -> RecordName:
        """Normalise the names of a request; raw, standardized and suffixed names lead to the same record.

        >>> RecordName.of_request("News, Media", "Sky Watch", "Daily Forecast")
        RecordName(category='News_Media', tool='sky_watch_for_News_Media', api='daily_forecast')
        >>> RecordName.of_request("Data", "sky_watch", "daily_forecast_for_sky_watch").api
        'daily_forecast'
        """
        category = standardize_category(category)
        suffix = f"_for_{category}"
        tool = tool_name if tool_name.endswith(suffix) else standardize(tool_name) + suffix
        api = change_name(standardize(api_name)).split(f"_for_{tool_name}")[0]
        return cls(category, tool, api)

    def relative_path(self) -> PurePosixPath | None:
        """Return the record's path below the cache folder; None where the names are not plain file names.

        A category, and a tool name that brings its own suffix, come from outside as they are: "..",
        separators, NUL and over-long names must not reach the file system.
        """
        parts = (self.category, self.tool, f"{self.api}.json")
        if not self.api or not all(is_plain_file_name(part) for part in parts):
            return None
        return PurePosixPath(*parts)


def bare_tool_name(tool_name: str, category: str) -> str:
    """Return the tool's own name, as another server wants it: without the suffix that names the category.

    Only that suffix is cut, so a tool with "_for_" inside its name keeps its name.

    >>> bare_tool_name("recipes_for_two_for_Food", "Food")
    'recipes_for_two'
    """
    return tool_name.removesuffix(f"_for_{category}")
