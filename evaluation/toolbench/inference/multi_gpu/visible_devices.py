"""Tells which GPUs CUDA_VISIBLE_DEVICES leaves, by CUDA's own rules, without asking CUDA.

The rules (CUDA Programming Guide, "CUDA Environment Variables"; what it leaves open, as the driver does it):

- Unset: every GPU. Empty: none.
- Entries are indices, `GPU-` UUIDs or `MIG-` ids; UUIDs may be shortened to a prefix that one device has.
  The first entry decides which of the three the list holds.
- CUDA stops at the first entry that names no device (-1, an unknown id, an ambiguous prefix, another
  kind than the first): the devices before it are visible, those after it are not.
- A device that is named twice makes CUDA see none.
- One MIG instance per process: of several, the first. A GPU in MIG mode stands for its first instance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_INDEX = re.compile(r"\+?([0-9]+)")  # like strtoul: what follows the digits does not count
_BLANKS = " \t\n\r\v\f"  # C's; CUDA does not take digits and blanks of other scripts for such


@dataclass(frozen=True)
class Device:
    """Describes a GPU as the driver lists it, with its MIG instances' ids when it is in MIG mode."""

    uuid: str
    mig_uuids: tuple[str, ...] = ()


@dataclass(frozen=True)
class VisibleDevices:
    """Holds UUIDs in CUDA's order (`uuids[0]` is cuda:0), and a sentence on what was ignored, if anything was."""

    uuids: tuple[str, ...]
    note: str | None = None


def resolve_visible_devices(text: str | None, devices: Sequence[Device]) -> VisibleDevices:
    """Return what `CUDA_VISIBLE_DEVICES=text` (None: unset) leaves of `devices`, which are in CUDA's order.

    >>> resolve_visible_devices("1,0", [Device("GPU-aa"), Device("GPU-bb")]).uuids
    ('GPU-bb', 'GPU-aa')
    """
    if text is None:
        return _one_mig_instance([_whole_or_first_instance(device) for device in devices])
    if not text.strip(_BLANKS):
        return VisibleDevices((), "it is empty, so CUDA sees no GPU")
    entries = [entry.strip(_BLANKS) for entry in text.split(",")]
    uuids: list[str] = []
    notes: list[str] = []
    for position, entry in enumerate(entries):
        found = _find(entry, _kind(entries[0]), devices)
        if found is None:
            behind = len(entries) - position - 1
            notes.append(f"CUDA stops at {entry!r}, which {_complaint(entry, _kind(entries[0]), devices)}")
            if behind:
                notes.append(f"{behind} behind it {'is' if behind == 1 else 'are'} ignored")
            break
        if found in uuids:
            return VisibleDevices((), f"{entry!r} names a GPU for the second time, so CUDA sees no GPU")
        uuids.append(found)
        if unread := _unread(entry, _kind(entries[0])):
            read = entry.removesuffix(unread)
            notes.append(f"CUDA reads {entry!r} as {read} and leaves out {unread!r}, for only commas separate GPUs")
    visible = _one_mig_instance(uuids)
    return VisibleDevices(visible.uuids, visible.note or "; ".join(notes) or None)


def _kind(entry: str) -> str:
    return next((prefix for prefix in ("GPU-", "MIG-") if entry.startswith(prefix)), "index")


def _find(entry: str, kind: str, devices: Sequence[Device]) -> str | None:
    if kind == "index":
        match = _INDEX.match(entry)
        index = int(match[1]) if match else -1
        return _whole_or_first_instance(devices[index]) if 0 <= index < len(devices) else None
    if not entry.startswith(kind):
        return None
    matches = _matches(entry, kind, devices)
    return matches[0] if len(matches) == 1 else None


def _unread(entry: str, kind: str) -> str:
    """Return what follows an index: CUDA reads `0;1` as 0."""
    match = _INDEX.match(entry) if kind == "index" else None
    return entry[match.end() :] if match else ""


def _matches(entry: str, kind: str, devices: Sequence[Device]) -> list[str]:
    if kind == "MIG-":
        return [uuid for device in devices for uuid in device.mig_uuids if uuid.startswith(entry)]
    return [_whole_or_first_instance(device) for device in devices if device.uuid.startswith(entry)]


def _complaint(entry: str, kind: str, devices: Sequence[Device]) -> str:
    if kind == "index":
        return f"is not an index below {len(devices)}"
    if not entry.startswith(kind):
        return f"is not one of the {kind} ids that the list began with"
    return "fits several devices" if _matches(entry, kind, devices) else "this driver does not list"


def _whole_or_first_instance(device: Device) -> str:
    return device.mig_uuids[0] if device.mig_uuids else device.uuid


def _one_mig_instance(uuids: Sequence[str]) -> VisibleDevices:
    first = next((uuid for uuid in uuids if uuid.startswith("MIG-")), None)
    if first is None or len(uuids) == 1:
        return VisibleDevices(tuple(uuids))
    whole = tuple(uuid for uuid in uuids if not uuid.startswith("MIG-"))
    # CUDA never mixes whole GPUs with instances in a process: the kind that comes first is what it lists.
    chosen = whole if not uuids[0].startswith("MIG-") else (first,)
    return VisibleDevices(chosen, f"a process sees one MIG instance or whole GPUs, not several: {len(chosen)} visible")
