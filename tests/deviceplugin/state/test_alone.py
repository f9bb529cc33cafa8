"""One device plugin for each state directory."""

from pathlib import Path

import pytest

from deviceplugin.state.alone import alone_in
from kerf.wire.errors import WireError


def test_a_second_plugin_is_refused_while_the_first_has_the_directory(tmp_path: Path) -> None:
    with alone_in(str(tmp_path / "state")):
        with pytest.raises(WireError) as caught, alone_in(str(tmp_path / "state"), patience_s=0.0):
            pytest.fail("two plugins have one directory")
        with alone_in(str(tmp_path / "other"), patience_s=0.0):
            pass

    words = "another device plugin of this node uses it: give each a directory of its own"
    assert (caught.value.field, caught.value.fix) == ("--state-dir", words)
    with alone_in(str(tmp_path / "state"), patience_s=0.0):
        pass
