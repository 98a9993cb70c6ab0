"""The README's refused kernel is refused with the message that the README shows."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from tests.examples.loading import ROOT
from zellige.cli.check import check

AROUND = """import zellige as zl
from zellige import f32
B, NB, P, HD, PAGES = zl.dims("B NB P HD PAGES")

@zl.kernel
def score(keys: zl.In[f32, NB, P, HD], table: zl.In[zl.Index[NB], B, PAGES], length: zl.In[zl.UpTo[PAGES * P], B], *,
          out: zl.Out[f32, B, HD], BS: zl.Static = 16):
    zl.requires(P >= 1)
    b = zl.grid(B)
    total = zl.zeros((HD,), f32)
{lines}    out[b, :] = total
"""


def test_the_refused_kernel_and_its_message(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().split("## A refused kernel")[1].split("\n## ")[0]
    (lines,), (message,) = (re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("python", "text"))
    bad = tmp_path / "bad.py"
    bad.write_text(AROUND.format(lines=re.sub(r" +#.*", "", lines)))
    result = CliRunner().invoke(check, [str(bad), "--no-cache"])
    assert result.exit_code == 1
    assert message in result.output.replace(str(bad), "bad.py")
