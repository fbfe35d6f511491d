"""Processors that a container may use, and features of a processor."""

from pathlib import Path

import pytest
import torch

from sbert.runtime import cpus, hardware


@pytest.mark.parametrize(("text", "expected"), [("150000 100000", 2), ("max 100000", 7), ("50000 100000", 1), ("?", 7)])
def test_the_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(cpus, "CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    assert cpus.available_cpus() == expected


def test_the_quota_of_older_control_groups_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quota").write_text("250000\n")
    (tmp_path / "period").write_text("100000\n")
    monkeypatch.setattr(cpus, "CGROUP_V2", tmp_path / "none")
    monkeypatch.setattr(cpus, "CGROUP_V1", tmp_path / "quota")
    monkeypatch.setattr(cpus, "CGROUP_V1_PERIOD", tmp_path / "period")
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: set(range(7)), raising=False)
    assert cpus.available_cpus() == 3
    (tmp_path / "quota").write_text("-1")
    assert cpus.available_cpus() == 7


def test_bfloat16_needs_units_that_are_not_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    features = {"amx_bf16": True, "avx512_bf16": False, "avx512": True, "avx2": True}
    monkeypatch.setattr(hardware, "cpu_features", lambda: features)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert hardware.has_fast_bfloat16(cpu)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert not hardware.has_fast_bfloat16(cpu)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert hardware.has_fast_bfloat16(cpu)
    features["amx_bf16"] = False
    assert not hardware.has_fast_bfloat16(cpu)
    assert not hardware.has_fast_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(
    ("vendor", "limit", "expected"),
    [
        ("AuthenticAMD", None, True),
        ("", None, True),
        ("GenuineIntel", None, False),
        ("AuthenticAMD", "AVX512_CORE_BF16", True),
        ("AuthenticAMD", "AVX512_CORE_VNNI", False),
    ],
)
def test_intels_units_for_bfloat16_other_than_amx_are_not_fast(
    vendor: str, limit: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There, bfloat16 takes 1.4 times as long as float32."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: X\n" if vendor else "")
    monkeypatch.setattr(cpus, "CPU_INFO", tmp_path / "cpuinfo")
    assert cpus.processor_vendor() == vendor
    assert cpus.processor_units() == ""
    features = {"amx_bf16": False, "avx512_bf16": True}
    monkeypatch.setattr(hardware, "cpu_features", lambda: features)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert hardware.has_fast_bfloat16(torch.device("cpu")) is expected
    features["amx_bf16"] = True
    assert hardware.has_fast_bfloat16(torch.device("cpu")) is (expected or limit is None)


def test_a_processor_without_a_description_has_no_vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpus, "CPU_INFO", tmp_path / "none")
    assert cpus.processor_vendor() == cpus.processor_units() == ""


@pytest.mark.parametrize("name", ["flags\t\t", "Features\t"])
def test_the_units_of_the_processor_are_those_of_its_description(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"vmx flags\t: ept\n{name}: fpu avx2\nbugs\t: none\n\n{name}: others\n")
    monkeypatch.setattr(cpus, "CPU_INFO", tmp_path / "cpuinfo")
    assert cpus.processor_units() == "fpu avx2"


@pytest.mark.parametrize(
    ("missing", "limit", "expected"),
    [
        ([], None, {"amx", "avx512_vnni", "avx512_bf16", "avx512", "avx2"}),
        (["amx_bf16"], None, {"avx512_vnni", "avx512_bf16", "avx512", "avx2"}),
        (["amx_bf16", "avx512_bf16"], None, {"avx512_vnni", "avx512", "avx2"}),
        (["amx_bf16", "avx512_bf16", "avx512_vnni"], None, {"avx512", "avx2"}),
        ([], "AVX512_CORE_BF16", {"avx512_vnni", "avx512_bf16", "avx512", "avx2"}),
        ([], "AVX512_CORE_VNNI", {"avx512_vnni", "avx512", "avx2"}),
        ([], "AVX512_CORE", {"avx512", "avx2"}),
        ([], "AVX2_VNNI", {"avx2"}),
        ([], "SSE41", set()),
    ],
)
def test_units_are_those_that_the_processor_has_and_the_limit_allows(
    missing: list[str], limit: str | None, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor with AVX512-VNNI computes integers, whether it has units for bfloat16 or not."""
    features = dict.fromkeys(["amx_bf16", "avx512_bf16", "avx512_vnni", "avx512", "avx2"], True)
    monkeypatch.setattr(hardware, "cpu_features", lambda: features | dict.fromkeys(missing, False))
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(variable, raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    names = ["amx", "avx512_vnni", "avx512_bf16", "avx512", "avx2"]
    assert {name for name in names if hardware.has_units(name)} == expected


@pytest.mark.parametrize(("num_threads", "allowed", "expected"), [(3, 2, 2), (1, 2, 1), (2, 2, 2)])
def test_threads_are_lowered_and_never_raised(
    num_threads: int, allowed: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(hardware, "available_cpus", lambda: allowed)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        hardware.limit_threads()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
