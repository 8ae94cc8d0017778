"""Formats of instruments through the libraries of their fields: read, written back, and refused."""

import io as memory
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise import clean_file, io
from denoise.errors import NothingToCleanError, UnreadableError, UsageError
from tests.io.sensor.makers import make_fif, make_fit, make_mseed, make_tdms, make_xlsx

T_S = np.arange(300) / 100
LOG = np.stack([np.sin(2 * np.pi * T_S), np.cos(2 * np.pi * T_S)])
HALF = 0.5


def halved(path: Path, out: Path) -> NDArray[Any]:
    """Write half of every sample, and read the result."""
    array, info = io.read(path)
    io.write(out, HALF * array, info)
    return io.read(out)[0]


def test_a_workbook_keeps_formulas_styles_and_other_sheets(tmp_path: Path) -> None:
    import openpyxl

    path, out = tmp_path / "a.xlsx", tmp_path / "b.xlsx"
    make_xlsx(path, LOG, clock=True)
    book = openpyxl.load_workbook(path)
    sheet: Any = book.active
    sheet.insert_rows(1)
    sheet["A1"] = "Rig 3"
    sheet["D2"], sheet["E2"] = "sum", "note"
    for row in range(3, 303):
        sheet.cell(row, 4).value = f"=B{row}+C{row}"
    sheet["E5"], sheet["B9"], sheet["C10"] = "looked at", None, "n/a"
    sheet["B4"].number_format = "0.000"
    book.create_sheet("Setup")["A1"] = 7
    book.save(path)
    array, info = io.read(path)
    expected = LOG.copy()
    expected[0, 6], expected[1, 7] = np.nan, np.nan
    np.testing.assert_allclose(array, expected)
    assert (info.columns, info.sample_rate, info.clock.name) == (("x", "y"), 1.0, "Time")
    assert any("sum (formulas)" in note for note in info.notes)
    np.testing.assert_allclose(halved(path, out), HALF * expected)
    new = openpyxl.load_workbook(out)
    assert new.sheetnames == ["Sheet", "Setup"]
    cells = new["Sheet"]
    assert (cells["A1"].value, cells["D7"].value, cells["E5"].value) == ("Rig 3", "=B7+C7", "looked at")
    assert (cells["B9"].value, cells["C10"].value, cells["B4"].number_format) == (None, "n/a", "0.000")
    assert cells["A3"].value == openpyxl.load_workbook(path)["Sheet"]["A3"].value


def test_whole_numbers_of_a_workbook_get_decimals_with_the_note_of_a_text(tmp_path: Path) -> None:
    import openpyxl

    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(["whole", "level"])
    for number, level in enumerate(LOG[0].tolist()):
        sheet.append([None if number == 9 else round(100 * level), level])
    book.save(path)
    text = tmp_path / "a.csv"
    text.write_text("whole,level\n" + "".join(f"{round(100 * x)},{x:.6f}\n" for x in LOG[0]))
    for file in (path, text):
        notes = [note for note in io.probe(file).notes if "whole numbers" in note]
        assert notes == ["whole numbers of whole get decimals where they are cleaned"]


def test_a_workbook_has_the_properties_of_its_source_and_the_same_bytes_at_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    import openpyxl

    path = tmp_path / "a.xlsx"
    make_xlsx(path, LOG)
    results = []
    for name, later_s in (("b.xlsx", 0), ("c.xlsx", 5000)):
        now = time.localtime(time.time() + later_s)
        monkeypatch.setattr(time, "localtime", lambda *_, now=now: now)
        halved(path, tmp_path / name)
        results.append((tmp_path / name).read_bytes())
    assert results[0] == results[1]
    old, new = (openpyxl.load_workbook(tmp_path / name).properties for name in ("a.xlsx", "b.xlsx"))
    assert (old.creator, old.created, old.modified) == (new.creator, new.created, new.modified)


def test_a_table_keeps_late_metadata_order_page_index_and_filters(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path, out = tmp_path / "a.parquet", tmp_path / "b.parquet"
    table = pyarrow.table({"n": np.arange(300), "x": LOG[0], "y": LOG[1]})
    order = [parquet.SortingColumn(0), parquet.SortingColumn(1)]
    options = {"sorting_columns": order, "write_page_index": True, "bloom_filter_options": {"x": True}}
    with parquet.ParquetWriter(path, table.schema, **options) as sink:
        sink.write_table(table, row_group_size=100)
        sink.add_key_value_metadata({"late": "kv"})
    halved(path, out)
    written = parquet.ParquetFile(out).metadata
    assert written.metadata[b"late"] == b"kv"
    group = written.row_group(2)
    assert group.sorting_columns == (order[0],)  # x is cleaned, so its order is no longer known
    assert group.column(0).has_column_index
    assert [group.column(number).bloom_filter_length is not None for number in range(3)] == [
        False,
        True,
        False,
    ]


def test_a_workbook_keeps_charts_and_pictures_and_says_that_formulas_have_no_values(tmp_path: Path) -> None:
    import openpyxl
    from openpyxl.chart import LineChart, Reference
    from openpyxl.drawing.image import Image as Drawing
    from PIL import Image

    path, out, photo = tmp_path / "a.xlsx", tmp_path / "b.xlsx", memory.BytesIO()
    make_xlsx(path, LOG)
    array, info = io.read(path)
    with io.writer(out, info) as plain:
        plain.write(HALF * array)
    assert plain.notes == ()  # no formulas
    book = openpyxl.load_workbook(path)
    sheet: Any = book.active
    chart = LineChart()
    chart.add_data(Reference(sheet, min_col=1, min_row=1, max_row=301), titles_from_data=True)
    sheet.add_chart(chart, "E2")
    Image.new("L", (8, 8)).save(photo, "PNG")
    sheet.add_image(Drawing(photo), "E30")
    book.create_sheet("Sums")["A1"] = "=SUM(Sheet!A2:A301)"
    book.save(path)
    array, info = io.read(path)
    with io.writer(out, info) as writer:
        writer.write(HALF * array)
    assert any("formulas are kept without their last values" in note for note in writer.notes)
    new: Any = openpyxl.load_workbook(out)["Sheet"]
    assert (len(new._charts), len(new._images)) == (1, 1)


def test_a_workbook_without_a_table_of_numbers_is_copied(tmp_path: Path) -> None:
    path, out = tmp_path / "letter.xlsx", tmp_path / "out.xlsx"
    make_xlsx(path, np.zeros((0, 0)), names=("Dear", "reader"))
    with pytest.raises(NothingToCleanError, match=r"letter\.xlsx: no sheet holds a table of numbers"):
        io.probe(path)
    report = clean_file(path, out, "savgol")
    assert out.read_bytes() == path.read_bytes()
    assert report.notes[0].startswith("copied: no sheet holds a table of numbers")


def test_channels_of_labview_keep_groups_properties_and_rate(tmp_path: Path) -> None:
    from nptdms import TdmsFile

    path, out = tmp_path / "a.tdms", tmp_path / "b.tdms"
    make_tdms(path, LOG, wf_increment=0.01, unit_string="V")
    info = io.probe(path)
    assert (info.columns, info.sample_rate) == (("run/x", "run/y"), 100.0)
    np.testing.assert_allclose(halved(path, out), HALF * LOG)
    new = TdmsFile.read(out)
    assert new.properties["author"] == "me"
    assert new["run"].properties["rig"] == 3
    assert new["run"]["y"].properties["unit_string"] == "V"


def test_numbers_that_the_file_scales_are_written_as_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.tdms"
    scale = {
        "NI_Number_Of_Scales": 1,
        "NI_Scaling_Status": "unscaled",
        "NI_Scale[0]_Scale_Type": "Linear",
        "NI_Scale[0]_Linear_Slope": 0.001,
        "NI_Scale[0]_Linear_Y_Intercept": 5.0,
        "NI_Scale[0]_Linear_Input_Source": 0xFFFFFFFF,
    }
    counts = np.rint(1000 * LOG).astype(np.int16)
    make_tdms(path, counts, **scale)
    np.testing.assert_allclose(io.read(path)[0], counts / 1000 + 5)
    np.testing.assert_allclose(halved(path, tmp_path / "b.tdms"), HALF * (counts / 1000 + 5))


@pytest.mark.parametrize("pause_s", [0.0, 3.0])
def test_traces_of_seismometers_keep_times_and_packing(tmp_path: Path, pause_s: float) -> None:
    import pymseed

    path, out = tmp_path / "a.mseed", tmp_path / "b.mseed"
    counts = np.rint(1000 * LOG).astype(np.int32)
    make_mseed(path, counts, pause_s=pause_s)
    array, info = io.read(path)
    assert info.sample_rate == 100.0
    assert info.columns[:2] == (
        ("XX.STA..BHN", "XX.STA..BHN#2") if pause_s else ("XX.STA..BHN", "XX.STA..BHZ")
    )
    np.testing.assert_array_equal(array.ravel(), counts[[1, 0]].ravel())
    np.testing.assert_array_equal(halved(path, out), np.rint(HALF * array))

    def facts(file: Path) -> list[tuple[Any, ...]]:
        records = pymseed.MS3Record.from_file(str(file))
        found = [(r.sourceid, r.starttime, r.samprate, r.encoding, r.formatversion) for r in records]
        return [*sorted({(*fact[:1], *fact[2:]) for fact in found}), min(fact[1] for fact in found)]

    assert facts(out) == facts(path)


class Trace(NamedTuple):
    """A stretch of a miniSEED file of the tests."""

    samples: NDArray[Any]
    encoding: int
    start_s: int = 0
    version: int = 1  # of the publication
    channel: str = "FDSN:XX_STA__B_H_Z"


def seismogram(path: Path, *traces: Trace) -> None:
    import pymseed

    kinds = {"i": "i", "f": "d", "u": "t"}
    for sent in traces:
        with pymseed.MS3TraceList() as packed:
            kind = kinds[sent.samples.dtype.kind]
            rate_hz = 0.0 if kind == "t" else 100.0
            packed.add_data(
                sent.channel,
                sent.samples,
                kind,
                rate_hz,
                starttime_seconds=sent.start_s,
                publication_version=sent.version,
            )
            packed.to_file(path, max_record_length=512, encoding=pymseed.DataEncoding(sent.encoding))


def records(path: Path) -> list[tuple[Any, ...]]:
    import pymseed

    every = pymseed.MS3Record.from_file(str(path), unpack_data=True)
    return [
        (r.sourceid, r.encoding, r.pubversion, r.starttime, r.extra, np.array(r.np_datasamples))
        for r in every
    ]


def test_records_of_a_seismometer_keep_their_own_encoding_and_version(tmp_path: Path) -> None:
    path, out = tmp_path / "a.mseed", tmp_path / "b.mseed"
    counts = np.rint(20_000 * LOG).astype(np.int32)
    seismogram(path, Trace(counts[0], 1), Trace(5 * counts[1], 11, 60), Trace(counts[0], 11, 63, 2))
    np.testing.assert_array_equal(io.read(path)[0], [counts[0], 5 * counts[1], counts[0]])
    np.testing.assert_array_equal(halved(path, out), np.rint(HALF * io.read(path)[0]))
    assert {row[1:3] for row in records(out)} == {row[1:3] for row in records(path)}
    assert {row[2] for row in records(out)} == {1, 2}


def test_a_channel_of_text_stays_beside_the_samples(tmp_path: Path) -> None:
    path, out = tmp_path / "a.mseed", tmp_path / "b.mseed"
    text = np.frombuffer(b"GPS locked", np.uint8)
    counts = np.rint(1000 * LOG).astype(np.int32)
    seismogram(path, Trace(text, 0, channel="FDSN:XX_STA__L_O_G"), Trace(counts[0], 11))
    info = io.probe(path)
    assert info.columns == ("XX.STA..BHZ",)
    assert any("XX.STA..LOG (text)" in note for note in info.notes)
    np.testing.assert_array_equal(halved(path, out), np.rint(HALF * counts[:1]))
    assert b"GPS locked" in out.read_bytes()
    assert clean_file(path, tmp_path / "c.mseed", "savgol").modality == "sensor"


def test_headers_of_records_stay_and_unchanged_records_keep_their_bytes(tmp_path: Path) -> None:
    import pymseed

    plain, path, out = (tmp_path / f"{name}.mseed" for name in "abc")
    seismogram(plain, Trace(np.rint(1e6 * np.tile(LOG[0], 9)).astype(np.int32), 11))
    with path.open("wb") as file:
        for record in pymseed.MS3Record.from_file(str(plain), unpack_data=True):
            record.reclen = 512
            record.extra = '{"FDSN":{"Time":{"Quality":80}}}'
            for packed in record.generate():
                file.write(packed)
    array, info = io.read(path)
    array[0, :50] += 10
    io.write(out, array, info)
    old, new = records(path), records(out)
    assert [row[:5] for row in new] == [row[:5] for row in old]
    assert [np.array_equal(a[5], b[5]) for a, b in zip(old, new, strict=True)].count(False) == 1
    np.testing.assert_array_equal(io.read(out)[0], array)


def test_steps_too_large_for_steim_are_stored_without_compression_and_noted(tmp_path: Path) -> None:
    path, out = tmp_path / "a.mseed", tmp_path / "b.mseed"
    seismogram(path, Trace(np.rint(1000 * LOG[0]).astype(np.int32), 11))
    array, info = io.read(path)
    array[0, 100] = 2e9  # steps of Steim-2 have 30 bits
    with io.writer(out, info) as sink:
        sink.write(array)
    np.testing.assert_array_equal(io.read(out)[0], array)
    assert "XX.STA..BHZ: 1 record packed without compression" in sink.notes[0]


def test_raw_meg_and_eeg_keep_triggers_and_precision(tmp_path: Path) -> None:
    import mne

    path, out = tmp_path / "a_raw.fif", tmp_path / "b.fif"
    make_fif(path, 1e-5 * LOG)
    info = io.probe(path)
    assert (info.columns, info.sample_rate) == (("Cz", "Pz"), 100.0)
    assert any("STI (stim channel)" in note for note in info.notes)
    np.testing.assert_allclose(halved(path, out), HALF * 1e-5 * LOG, rtol=1e-12)
    renamed = out.rename(tmp_path / "b_raw.fif")
    trigger = mne.io.read_raw_fif(renamed, verbose="error").get_data(["STI"])[0]
    assert trigger[50] == 3
    assert trigger.sum() == 3


def test_an_activity_becomes_a_table(tmp_path: Path) -> None:
    path, out = tmp_path / "ride.fit", tmp_path / "ride.csv"
    power = np.rint(200 + 30 * LOG[0]).astype(int)
    make_fit(path, power)
    array, info = io.read(path)
    assert (info.columns, info.sample_rate) == (("power",), 1.0)
    np.testing.assert_array_equal(array[0], power)
    assert io.written_name(path) == "ride.csv"
    np.testing.assert_allclose(halved(path, out)[0], HALF * power)
    head, first, *_ = out.read_text().splitlines()
    assert head == "timestamp,heart_rate,cadence,power"
    assert first.startswith("2024-03-30T22:00:00+00:00,120,85,")
    io.write(out, array, info)
    assert io.read(out)[1].sample_rate == 1.0
    with pytest.raises(UsageError, match=r"a \.fit log is written as \.csv"):
        io.write(tmp_path / "b.fit", array, info)


def test_a_field_that_a_record_defines_twice_gives_two_columns(tmp_path: Path) -> None:
    path, out = tmp_path / "ride.fit", tmp_path / "ride.csv"
    power = np.rint(200 + 30 * LOG).astype(int)
    make_fit(path, power[0], power[1])
    array, info = io.read(path)
    assert info.columns == ("power", "power#2")
    np.testing.assert_array_equal(array, power)
    np.testing.assert_allclose(halved(path, out), HALF * power)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    make_tdms(tmp_path / "a.tdms", LOG)
    monkeypatch.setitem(sys.modules, "nptdms", None)
    with pytest.raises(Exception, match=r"needs nptdms; install the extra: .*denoise-pipelines\[tdms\]"):
        io.probe(tmp_path / "a.tdms")


@pytest.mark.parametrize(
    ("form", "bits", "subtype"), [("508", 8, "PCM_S8"), ("516", 16, "PCM_16"), ("524", 24, "PCM_24")]
)
def test_wfdb_samples_stay_packed_as_flac(tmp_path: Path, form: str, bits: int, subtype: str) -> None:
    import soundfile

    stored = np.rint(100 * LOG).astype(np.int32)
    soundfile.write(tmp_path / "r.dat", stored.T << (32 - bits), 360, subtype, format="FLAC")
    signals = "".join(
        f"r.dat {form} 100/mV {bits} 0 {row[0]} 0 0 {name}\n" for row, name in zip(stored, "ab", strict=True)
    )
    (tmp_path / "r.hea").write_text(f"r 2 360 300\n{signals}")
    array, info = io.read(tmp_path / "r.hea")
    assert (info.sample_rate, info.columns) == (360.0, ("a", "b"))
    np.testing.assert_allclose(array, stored / 100)
    (tmp_path / "out").mkdir()
    np.testing.assert_allclose(
        halved(tmp_path / "r.hea", tmp_path / "out" / "r.hea"), np.rint(stored / 2) / 100
    )
    packed = soundfile.info(tmp_path / "out" / "r.dat")
    assert (packed.format, packed.subtype, packed.samplerate) == ("FLAC", subtype, 360)
    sums = [int(np.rint(row / 2).sum()) for row in stored]
    header = (tmp_path / "out" / "r.hea").read_text().splitlines()[1:]
    assert [int(line.split()[6]) for line in header] == [
        (total + 0x8000) % 0x10000 - 0x8000 for total in sums
    ]


def test_a_dead_channel_and_an_infinity_refuse_no_file(tmp_path: Path) -> None:
    dead = np.stack([LOG[0], np.zeros(300), np.full(300, np.nan)])
    dead[0, 40] = np.inf
    make_xlsx(tmp_path / "a.xlsx", np.stack([LOG[0], np.zeros(300)]))
    assert io.probe(tmp_path / "a.xlsx").columns == ("x",)
    make_tdms(tmp_path / "a.tdms", dead[:2])
    info = io.probe(tmp_path / "a.tdms")
    assert info.columns == ("run/x",)
    assert any("infinity" in note for note in info.notes)
    np.savez(tmp_path / "a.npz", x=dead[0], dead=dead[1], nothing=dead[2])
    assert io.probe(tmp_path / "a.npz").columns == ("x",)
    out = halved(tmp_path / "a.npz", tmp_path / "b.npz")
    assert np.isnan(out[0, 40])
    assert np.isinf(np.load(tmp_path / "b.npz")["x"][40])


def test_a_checksum_that_disagrees_is_damage(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_fit(tmp_path / "a.fit", np.full(300, 200))
    table = pa.table({"t": T_S, "x": LOG[0]})
    pq.write_table(
        table, tmp_path / "a.parquet", write_page_checksum=True, compression="none", use_dictionary=False
    )
    for name in ("a.fit", "a.parquet"):
        io.read(tmp_path / name)
        data = bytearray((tmp_path / name).read_bytes())
        data[1500] ^= 1
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableError, match=rf"{name}: .*(crc|checksum)"):
            io.read(tmp_path / name)


def test_channels_whose_names_read_the_same_are_all_kept(tmp_path: Path) -> None:
    from nptdms import ChannelObject, TdmsFile, TdmsWriter

    path, out = tmp_path / "a.tdms", tmp_path / "b.tdms"
    with TdmsWriter(str(path)) as writer:
        writer.write_segment([ChannelObject("a", "b/c", LOG[0]), ChannelObject("a/b", "c", LOG[1])])
    assert io.probe(path).names == ("a/b/c", "a/b/c#2")
    np.testing.assert_allclose(halved(path, out), HALF * LOG)
    with TdmsFile.read(out) as file:
        np.testing.assert_allclose(file["a"]["b/c"][:], HALF * LOG[0])
        np.testing.assert_allclose(file["a/b"]["c"][:], HALF * LOG[1])


def test_a_parquet_keeps_old_stamps_and_decimals(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, out = tmp_path / "a.parquet", tmp_path / "b.parquet"
    stamps = pa.array(1_700_000_000_000_000_001 + np.arange(300) * 10**7, pa.timestamp("ns"))
    money = pa.array([Decimal(n) / 100 for n in range(300)], pa.decimal128(9, 2))
    pq.write_table(
        pa.table({"t": stamps, "x": LOG[0], "m": money}),
        path,
        version="1.0",
        use_deprecated_int96_timestamps=True,
        store_decimal_as_integer=True,
    )
    halved(path, out)
    before, after = pq.ParquetFile(path), pq.ParquetFile(out)
    kinds = [[f.schema.column(n).physical_type for n in range(3)] for f in (before, after)]
    assert kinds[0] == kinds[1] == ["INT96", "DOUBLE", "INT32"]
    assert after.schema_arrow == before.schema_arrow
    assert after.read(["t", "m"]) == before.read(["t", "m"])
