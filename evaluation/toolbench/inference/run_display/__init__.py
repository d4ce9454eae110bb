"""Shows a person a run while it is on: as one live display on a terminal, as plain lines elsewhere.

Reading order: `status` (what it is told), `figures` (what is worked out from one status after another), `frames` (how
it is laid out), `display` (the only module here that writes). In a run:

    with RunDisplay() as display:
        display.print_line("replica 1 has crashed; it is started again")
        display.show(status)  # once a second or so
"""
