"""Keeps the pages of the KV cache: who holds which, and which free ones still hold something worth finding.

Only numbers; the tensors are elsewhere. A page that nobody holds is free, but keeps its content and its
name (a digest of all tokens up to its end) until it is taken again, so a later prompt that begins alike
can revive it. Free pages are taken in the order in which they were given back, the oldest first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class PagePool:
    """Keeps `num_pages` pages of `page_size` tokens, with a count of holders for each."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self._holders = [0] * num_pages
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_pages))
        self._name_of: dict[int, bytes] = {}
        self._page_of: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    def pages_for(self, num_tokens: int) -> int:
        """Return pages that `num_tokens` tokens occupy."""
        return -(-num_tokens // self.page_size)

    def take(self, count: int) -> list[int]:
        """Take `count` pages with one holder each, without a name. The caller has made sure that this many are free."""
        if count > len(self._free):
            raise ValueError(f"{count} pages asked for, {len(self._free)} of {self.num_pages} are free")
        pages = [self._free.popitem(last=False)[0] for _ in range(count)]
        for page in pages:
            self.forget(page)
            self._holders[page] = 1
        return pages

    def share(self, page: int) -> None:
        """Count one holder more; a free page comes back to life."""
        self._free.pop(page, None)
        self._holders[page] += 1

    def give_back(self, pages: Sequence[int]) -> None:
        """Count one holder less for each. The last ones of a sequence are the first to be taken again."""
        for page in reversed(pages):
            if self._holders[page] < 1:
                raise ValueError(f"page {page} is given back but nobody holds it")
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free[page] = None

    def is_free(self, page: int) -> bool:
        return page in self._free

    def is_shared(self, page: int) -> bool:
        return self._holders[page] > 1

    def name(self, page: int, name: bytes) -> None:
        """Make a full page findable, unless another page with the same content already is."""
        if name not in self._page_of and page not in self._name_of:
            self._page_of[name] = page
            self._name_of[page] = name

    def forget(self, page: int) -> None:
        """Let nobody find `page` any more: its content is about to change, or never came to be."""
        name = self._name_of.pop(page, None)
        if name is not None:
            del self._page_of[name]

    def find(self, name: bytes) -> int | None:
        """Return the page with this name, held or free."""
        return self._page_of.get(name)


def extend_names(names: list[bytes], token_ids: Sequence[int], page_size: int) -> None:
    """Append to `names`, those of the first full pages of `token_ids`, the names of the full pages after them."""
    for index in range(len(names), len(token_ids) // page_size):
        parent = names[-1] if names else b""
        names.append(page_name(parent, token_ids[index * page_size : (index + 1) * page_size]))


def page_name(parent: bytes, token_ids: Iterable[int]) -> bytes:
    """Return the name of a full page: a digest of its tokens and of its parent's name (b"" for the first page)."""
    return hashlib.blake2b(parent + array("q", token_ids).tobytes(), digest_size=16).digest()
