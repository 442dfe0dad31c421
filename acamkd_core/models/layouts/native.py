"""Files written by this library: names are the network's own."""

from acamkd_core.models.layouts.base import Layout

LAYOUT = Layout(name="native")
