"""The compiled kernels of every kind, one kind after the other."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sbert.encoder.engine import compiled
from sbert.encoder.engine import kernel_targets as units_of_processors
from sbert.encoder.engine.compiled import Kernels, load_kernels
from sbert.encoder.engine.kernel_targets import NATIVE_VARIABLE, ProcessorUnits
from sbert.runtime.hardware import cpu_features, has_units
from tests.support.kernels import KINDS, compiler_that_knows

EMULATION = Path(__file__).with_name("emulated_tiles.h")


@pytest.fixture(scope="module", params=KINDS)
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    """The kernels of every kind that this processor can run; those for AMX with emulated tile instructions, where it has none."""
    units = KINDS[request.param]
    if os.environ.get(NATIVE_VARIABLE) == "0":
        pytest.skip(f"the kernels are turned off by {NATIVE_VARIABLE}=0: unset it to test them")
    compiler = compiler_that_knows(units)
    emulated = units.has_tiles and not has_units("amx") and cpu_features()["avx512_bf16"]
    if not emulated and not has_units(units.name):
        pytest.skip(
            f"no kernels to run: this processor has no {units.needs}. Run on an x86-64 processor that has it; here the same "
            "encoders are computed in other ways, which other tests cover"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units_of_processors, "has_units", lambda name: name == units.name)
        if emulated:
            library = emulated_kernels(compiler, units, tmp_path_factory.mktemp("emulated") / "kernels.so")
            patch.setattr(compiled, "_load", lambda _: Kernels(library, "emulated", units))
        loaded = load_kernels(units.dtype)
        assert loaded.units is units, loaded.reason
        yield loaded


def emulated_kernels(compiler: list[str], units: ProcessorUnits, file: Path) -> ctypes.CDLL:
    sources = compiled.read_sources()
    include = "#include <immintrin.h>\n"
    assert include in sources["registers.h"]
    sources["registers.h"] = sources["registers.h"].replace(include, f'{include}#include "{EMULATION.name}"\n')
    compiled._compile({**sources, EMULATION.name: EMULATION.read_text()}, compiler, units, file)
    library = ctypes.CDLL(str(file))
    library.sbert_encode.restype = ctypes.c_int32
    return library
