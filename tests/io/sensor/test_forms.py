"""Forms in which instruments, loggers and spreadsheets export a recording: each is read right, or refused.

Every text is made up here after the formats of the makers; no file of anybody is copied.
"""

import gzip
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from denoise import clean_file, io
from denoise.errors import DenoiseError, UnreadableError
from denoise.io.sensor.codec import CODEC
from denoise.io.sensor.dialect import head_of
from denoise.signal import DECIMALS, DELIMITERS
from pipelines.batch.discover import find
from pipelines.cli.group import cli

ROWS = 240
_RNG = np.random.default_rng(18)
WAVE = 20 + 3 * np.sin(np.arange(ROWS) / 17) + _RNG.normal(0, 0.2, ROWS)  # 16.5 to 23.5
BIG = 3400 + 900 * np.sin(np.arange(ROWS) / 23) + _RNG.normal(0, 30, ROWS)  # 2400 to 4400
ADC = np.rint(500 + 80 * np.sin(np.arange(ROWS) / 11) + _RNG.normal(0, 6, ROWS)).astype(int)
START = datetime(2024, 3, 30, 22, 0)


@dataclass(frozen=True)
class Form:
    """One form.

    Args:
        text: The file.
        cleaned: Names of the columns that are cleaned.
        left: Columns that must not change, and a word of the reason that the notes give.
        rate: Hz; None if the file does not state it.
        refusal: What the sentence of a refusal says; empty if the file is read.
        options: Options that the user gives.
        suffix: Suffix of the file's name.
        notes: Words that the notes hold.
    """

    text: str
    cleaned: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None
    refusal: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ".csv"
    notes: tuple[str, ...] = ()


def _table(head: str, row: Callable[[int], str], rows: int = ROWS, end: str = "\n") -> str:
    return head + "".join(row(index) + end for index in range(rows))


def _at(index: int, pattern: str, step_s: float = 1.0) -> str:
    stamp = START + timedelta(seconds=index * step_s)
    return stamp.strftime(pattern)


def _de(value: float, digits: int = 2) -> str:
    """German: 1.234,5."""
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))


_GERMAN = "%d.%m.%Y %H:%M:%S"

FORMS: dict[str, Form] = {
    # ---- commas -------------------------------------------------------------------------------------------
    "semicolons, status, decimal comma": Form(
        _table("Zeit;Status;Temperatur\n", lambda i: f"{_at(i, _GERMAN)};OK;{_de(WAVE[i], 1)}"),
        ("Temperatur",),
        {"Status": "text"},
        1.0,
    ),
    "text that holds commas before a decimal comma": Form(
        _table(
            "Ort;Zeit;Wert\n", lambda i: f"Halle 3, Tor {i % 4}, Nord;{_at(i, _GERMAN)};{_de(WAVE[i], 1)}"
        ),
        ("Wert",),
        {"Ort": "text"},
        1.0,
    ),
    "decimal comma and thousands": Form(
        _table("Zeit;Leistung\n", lambda i: f"{_at(i, _GERMAN)};{_de(BIG[i])}"), ("Leistung",), rate=1.0
    ),
    "thousands below and above 1000": Form(
        _table("Zeit;Leistung\n", lambda i: f"{_at(i, _GERMAN)};{_de(BIG[i] - 2500)}"),
        ("Leistung",),
        rate=1.0,
    ),
    "one column, decimal comma, header": Form(
        _table("Temp\n", lambda i: _de(WAVE[i])), ("Temp",), notes=("no sample rate", "--sample-rate")
    ),
    "one column, decimal comma, no header": Form(_table("", lambda i: _de(WAVE[i])), ("1",)),
    "one column, one digit behind a comma": Form(
        _table("", lambda i: _de(WAVE[i], 1)), refusal=("--decimal comma", "--delimiter comma")
    ),
    "one column, one digit, the mark given": Form(
        _table("", lambda i: _de(WAVE[i], 1)), ("1",), options={"decimal": "comma"}
    ),
    "two whole columns without a header": Form(
        _table("", lambda i: f"{ADC[i] % 97 + 103},{ADC[-1 - i]}"), ("1", "2")
    ),
    "two columns of one digit, the delimiter given": Form(
        _table("", lambda i: f"{ADC[i] % 7},{ADC[-1 - i] % 9}"), ("1", "2"), options={"delimiter": "comma"}
    ),
    "decimal commas between commas": Form(
        _table("t,x\n", lambda i: f"{i},{_de(WAVE[i])}"), refusal=("names 2 columns", "semicolons")
    ),
    "quoted decimal commas between commas": Form(
        _table("t,x\n", lambda i: f'"{_de(i / 50)}","{_de(WAVE[i])}"'), ("x",), rate=50.0
    ),
    "thousands in quotes, as Excel exports them": Form(
        _table(
            "time_s,load\n",
            lambda i: f"{i}," + (f'"{v:,.0f}"' if (v := round(BIG[i] - 2500)) > 999 else f"{v:.0f}"),
        ),
        ("load",),
        rate=1.0,
    ),
    "thousands or fractions": Form(
        _table("time\tx\n", lambda i: f"{i}\t{BIG[i]:,.0f}"), refusal=("--decimal comma or --decimal point",)
    ),
    "thousands or fractions, the mark given": Form(
        _table("time_s\tx\n", lambda i: f"{i}\t{BIG[i]:,.0f}"), ("x",), rate=1.0, options={"decimal": "point"}
    ),
    "Swiss thousands": Form(
        _table("time_s;x\n", lambda i: f"{i};{BIG[i]:,.1f}".replace(",", "'")), ("x",), rate=1.0
    ),
    "English decimals in semicolons": Form(
        _table("time_s;x;y\n", lambda i: f"{i};{WAVE[i]:.3f};{BIG[i]:.1f}"), ("x", "y"), rate=1.0
    ),
    "blanks and decimal commas": Form(
        _table("   t_s     x      y\n", lambda i: f"{_de(i / 10):>6} {_de(WAVE[i]):>7} {_de(WAVE[-i]):>7}"),
        ("x", "y"),
        rate=10.0,
    ),
    "tabs, decimal comma, CRLF, BOM": Form(
        "\ufeff" + _table("t_s\tx\r\n", lambda i: f"{_de(i / 20)}\t{_de(WAVE[i])}", end="\r\n"),
        ("x",),
        rate=20.0,
        suffix=".tsv",
    ),
    # ---- columns that must not change -------------------------------------------------------------------
    "a heading": Form(
        _table("time_s,heading_deg\n", lambda i: f"{i},{(WAVE[i] * 9 + 160) % 360:.1f}"),
        refusal=("heading_deg (angle)", "--columns"),
    ),
    "a heading that is named is cleaned on the circle": Form(
        _table("time_s,heading_deg\n", lambda i: f"{i},{(WAVE[i] * 9 + 160) % 360:.1f}"),
        ("heading_deg",),
        rate=1.0,
        options={"columns": ("heading_deg",)},
    ),
    "wind": Form(
        _table("time_s,WindDir,WindSpd (m/s)\n", lambda i: f"{i},{ADC[i] % 360},{abs(WAVE[i] - 20):.1f}"),
        ("WindSpd (m/s)",),
        {"WindDir": "angle"},
        1.0,
    ),
    "columns of a date": Form(
        _table(
            "year,month,day,hour,minute,second,temp\n",
            lambda i: _at(i, "%Y,%m,%d,%H,%M,%S", 60).replace(",0", ",") + f",{WAVE[i]:.2f}",
        ),
        ("temp",),
        {"day": "part of a date", "hour": "part of a date", "second": "part of a date"},
        1 / 60,
    ),
    "an energy meter": Form(
        _table(
            "time,power_W,energy_kWh,tariff_flag,relay\n",
            lambda i: (
                f"{_at(i, '%Y-%m-%d %H:%M:%S', 60)},{BIG[i]:.0f},{1200 + i * 0.057 + i % 7 * 0.001:.3f},"
                f"{i // 100 % 2},{i // 60 % 2}"
            ),
        ),
        ("power_W",),
        {"energy_kWh": "never falls", "tariff_flag": "flag", "relay": "flag"},
        1 / 60,
    ),
    "a total with an overflow": Form(
        _table("time_s,encoder,force_N\n", lambda i: f"{i},{(i * 331 + ADC[i] % 50) % 40000},{WAVE[i]:.2f}"),
        ("force_N",),
        {"encoder": "total"},
        1.0,
    ),
    "position and satellites": Form(
        _table(
            "time_s,lat,lon,alt_m,sats,hdop\n",
            lambda i: (
                f"{i},{48.1 + i * 1e-5:.6f},{11.5 + WAVE[i] * 1e-6:.6f},"
                f"{WAVE[i] + 500:.1f},{7 + i % 3},1.{i % 4}"
            ),
        ),
        ("alt_m",),
        {"lat": "position", "lon": "position", "sats": "satellites", "hdop": "satellites"},
        1.0,
    ),
    "rotations": Form(
        _table(
            "time_s,quat_w,quat_x,quat_y,quat_z,gyro_x\n",
            lambda i: f"{i / 100},{np.cos(i / 50):.4f},{np.sin(i / 50):.4f},0.0000,0.0000,{WAVE[i] - 20:.3f}",
        ),
        ("gyro_x",),
        {"quat_w": "quaternion", "quat_y": "quaternion"},
        100.0,
    ),
    "labels, modes and setpoints": Form(
        _table(
            "time_s,mode,setpoint_C,soll,temp_C,activity\n",
            lambda i: f"{i},{i // 50},{19.5 + i // 80},{WAVE[i] + 1:.1f},{WAVE[i]:.2f},{i // 30 % 5}",
        ),
        ("temp_C",),
        {"mode": "label", "setpoint_C": "setpoint", "soll": "setpoint", "activity": "label"},
        1.0,
    ),
    "names that only resemble those of kinds": Form(
        _table(
            "time_s,yaw_rate,lat_acc,lat_ms,SpO2 sat,Channel 1,ch0,ch1,ch2,ch3,temp_error\n",
            lambda i: (
                f"{i},{WAVE[i]:.2f},{WAVE[-i] - 20:.2f},{WAVE[i]:.1f},{WAVE[i] + 70:.1f},{ADC[i]},"
                + ",".join(f"{np.sin(i / (5 + k)) * 0.7 + WAVE[i - k] / 100:.3f}" for k in range(4))
                + f",{ADC[-i] - 500}"
            ),
        ),
        ("yaw_rate", "lat_acc", "lat_ms", "SpO2 sat", "Channel 1", "ch0", "ch1", "ch2", "ch3", "temp_error"),
        rate=1.0,
    ),
    "people and vehicles": Form(
        _table(
            "time_s,vehicles,speed_kmh,person_count\n",
            lambda i: f"{i},{ADC[i] % 9},{WAVE[i] * 3:.1f},{ADC[-i - 1] % 5}",
        ),
        ("speed_kmh",),
        {"vehicles": "count in whole steps", "person_count": "count in whole steps"},
        1.0,
    ),
    "rain": Form(
        _table("time_s,rain_mm,temp\n", lambda i: f"{i},{0.2 * max(ADC[i] % 9 - 5, 0):.1f},{WAVE[i]:.1f}"),
        ("temp",),
        {"rain_mm": "amounts of single events"},
        1.0,
    ),
    "levels that are held for long": Form(
        _table("time_s,valve_A,flow\n", lambda i: f"{i},{4 + 3.5 * (i // 45 % 4):.1f},{WAVE[i]:.2f}"),
        ("flow",),
        {"valve_A": "holds its value for long"},
        1.0,
    ),
    "a signal whose name ends in time": Form(
        _table("X105_DE_time,response_time_ms\n", lambda i: f"{WAVE[i] - 20:.5f},{BIG[i]:.1f}"),
        ("X105_DE_time", "response_time_ms"),
    ),
    # ---- missing values ---------------------------------------------------------------------------------
    "codes of missing values": Form(
        _table(
            "time_s,temp,press,adc\n",
            lambda i: (
                f"{i},{-999.0 if i % 20 == 3 else round(WAVE[i], 2)},"
                f"{9999 if i % 50 == 7 else round(BIG[i] / 10 + 700, 1)},{65535 if i % 70 == 9 else ADC[i]}"
            ),
        ),
        ("temp", "press", "adc"),
        rate=1.0,
        notes=("-999 in temp stands for a missing value (12 samples)", "9999 in press", "65535 in adc"),
    ),
    "words for missing values": Form(
        _table(
            "time_s,a,b,c\n",
            lambda i: (
                f"{i},{'---' if i % 9 == 2 else round(WAVE[i], 2)},"
                f"{'NAN' if i % 11 == 5 else round(WAVE[-i], 2)},{'ERR' if i % 40 == 6 else round(BIG[i], 1)}"
            ),
        ),
        ("a", "b", "c"),
        rate=1.0,
    ),
    "one infinity and one dead channel": Form(
        _table("time_s,a,b,c\n", lambda i: f"{i},{'inf' if i == 30 else round(WAVE[i], 2)},nan,{BIG[i]:.1f}"),
        ("a", "c"),
        rate=1.0,
        notes=("an infinity in a, line 32",),
    ),
    "999 that is a reading": Form(
        _table("time_s,hPa\n", lambda i: f"{i},{round(999 + (WAVE[i] - 20) * 3)}"), ("hPa",), rate=1.0
    ),
    "JSON lines": Form(
        _table("", lambda i: f'{{"t": {i}, "x": {ADC[i]}, "y": {ADC[-i]}}}'),
        refusal=("is JSON",),
        suffix=".log",
    ),
    "NMEA sentences": Form(
        _table("", lambda i: f"$GPGGA,{_at(i, '%H%M%S')}.00,4807.{i + 100},N,1,08,0.9,{WAVE[i]:.1f},M,,*47"),
        refusal=("checksums",),
        suffix=".log",
    ),
    "thousands beside a German date": Form(
        _table("Zeit;W\n", lambda i: f"{_at(i, _GERMAN)};{_de(BIG[i], 0)}"),
        refusal=("--decimal comma or --decimal point",),
    ),
    "three decimals in semicolons": Form(
        _table("time;V\n", lambda i: f"{_at(i, '%Y-%m-%d %H:%M:%S')};{WAVE[i]:.3f}"), ("V",), rate=1.0
    ),
    "Excel's hint of the delimiter": Form(
        _table("sep=;\nt;x\n", lambda i: f"{i / 10};{_de(WAVE[i])}"), ("x",), rate=10.0
    ),
    "a recording on its side": Form(
        "".join(",".join(f"{v:.2f}" for v in WAVE) + "\n" for _ in range(4)), refusal=("transpose",)
    ),
    "codes of missing values alone": Form(
        _table("t_s,x,hhmm,y\n", lambda i: f"{i},-9999,{_at(i, '%H%M')},{WAVE[i]:.2f}"),
        ("y",),
        {"x": "only codes of missing values", "hhmm": "part of a date"},
        1.0,
    ),
    "a multimeter with units in its cells": Form(
        _table(
            "Sample,Start Time,Max\n", lambda i: f"{i + 1},{_at(i, '%m/%d/%Y %H:%M:%S')},{WAVE[i]:.3f} V DC"
        ),
        refusal=("V DC",),
    ),
    # ---- clocks -----------------------------------------------------------------------------------------
    "days of Excel": Form(
        _table("date,x\n", lambda i: f"{45000 + i / 1440:.8f},{WAVE[i]:.2f}"), ("x",), rate=1 / 60
    ),
    "dd/mm/yyyy": Form(
        _table("Timestamp,Level_m\n", lambda i: f"{_at(i, '%d/%m/%Y %H:%M', 900)},{WAVE[i] / 10:.3f}"),
        ("Level_m",),
        rate=1 / 900,
    ),
    "mm/dd/yyyy AM": Form(
        _table("Date/Time,Temp\n", lambda i: f"{_at(i, '%m/%d/%Y %I:%M:%S %p', 60)},{WAVE[i]:.2f}"),
        ("Temp",),
        rate=1 / 60,
    ),
    "dd/mm within twelve days": Form(
        _table(
            "Timestamp,x\n",
            lambda i: f"{(START + timedelta(days=2, hours=i)).strftime('%d/%m/%Y %H:%M')},{WAVE[i]:.2f}",
            200,
        ),
        ("x",),
        rate=1 / 3600,
    ),
    "month names": Form(
        _table("when;x\n", lambda i: f"{_at(i, '%d-%b-%Y %H:%M:%S', 10)};{WAVE[i]:.2f}"), ("x",), rate=0.1
    ),
    "stamps in UTC": Form(
        _table("Time,x\n", lambda i: f"{_at(i, '%Y-%m-%d %H:%M:%S')} UTC,{WAVE[i]:.2f}"), ("x",), rate=1.0
    ),
    "yyyymmddHHMM": Form(
        _table("MESS_DATUM;x\n", lambda i: f"{_at(i, '%Y%m%d%H%M', 600)};{WAVE[i]:.1f}"), ("x",), rate=1 / 600
    ),
    "date and time in two columns": Form(
        _table("Datum;Uhrzeit;x\n", lambda i: f"{_at(i, '%d.%m.%Y;%H:%M:%S', 60)};{_de(WAVE[i])}"),
        ("x",),
        {"Datum": "time"},
        1 / 60,
    ),
    "milliseconds called time": Form(
        _table("time,x\n", lambda i: f"{i * 3.90625:.3f},{WAVE[i]:.3f}"),
        ("x",),
        rate=256.0,
        notes=("guessed",),
    ),
    "minutes in seconds": Form(_table("time,x\n", lambda i: f"{60 * i},{WAVE[i]:.3f}"), ("x",), rate=1 / 60),
    "epoch in milliseconds": Form(
        _table("ts,x\n", lambda i: f"{1711836000000 + 20 * i},{WAVE[i]:.3f}"), ("x",), rate=50.0
    ),
    "a day that ends daylight saving": Form(
        _table(
            "time,x\n",
            lambda i: f"{_at(i - 60 * (i >= 120), '%Y-%m-%d %H:%M', 60)},{WAVE[i]:.2f}",
        ),
        ("x",),
        rate=1 / 60,
    ),
    "Empatica": Form(
        "1502540489.00\n64.000000\n" + _table("", lambda i: f"{WAVE[i] - 20:.2f}"),
        ("1",),
        rate=64.0,
        notes=("64 Hz as the file states it",),
    ),
    # ---- instruments ------------------------------------------------------------------------------------
    "Campbell TOA5": Form(
        '"TOA5","CR1000X","CR1000X","12345","CR1000X.Std.05.02"\n"TIMESTAMP","RECORD","AirTC_Avg","WindDir",'
        '"Rain_mm_Tot"\n"TS","RN","Deg C","Deg","mm"\n"","","Avg","WVc","Tot"\n'
        + _table(
            "",
            lambda i: (
                _at(i, '"%Y-%m-%d %H:%M:%S",', 600)
                + (f'{4711 + i},"NAN",' if i % 60 == 9 else f"{4711 + i},{WAVE[i]:.3f},")
                + f"{ADC[i] % 360},{0.2 * max(ADC[i] % 9 - 6, 0):.1f}"
            ),
        ),
        ("AirTC_Avg",),
        {"RECORD": "counter", "WindDir": "angle", "Rain_mm_Tot": "amounts of single events"},
        1 / 600,
        suffix=".dat",
    ),
    "DWD": Form(
        _table(
            "STATIONS_ID;MESS_DATUM;QN_9;TT_TU;RF_TU;eor\n",
            lambda i: (
                f"        433;{_at(i, '%Y%m%d%H', 3600)};    3;"
                f"{-999 if i % 90 == 8 else round(WAVE[i], 1):>7};{min(60 + WAVE[i], 100):>6.1f};eor"
            ),
        ),
        ("TT_TU", "RF_TU"),
        {"STATIONS_ID": "constant", "QN_9": "constant", "eor": "text"},
        1 / 3600,
        suffix=".txt",
        notes=("-999 in TT_TU",),
    ),
    "OpenBCI": Form(
        "%OpenBCI Raw EXG Data\n%Number of channels = 2\n%Sample Rate = 250 Hz\n%Board = Cyton\n"
        "Sample Index, EXG Channel 0, EXG Channel 1, Other\n"
        + _table("", lambda i: f"{i % 256}.0, {WAVE[i] * 100:.6f}, {BIG[i]:.6f}, 0.0"),
        ("EXG Channel 0", "EXG Channel 1"),
        {"Sample Index": "counter", "Other": "constant"},
        250.0,
        suffix=".txt",
    ),
    "LabVIEW": Form(
        "LabVIEW Measurement\t\nSeparator\tTab\nDecimal_Separator\t.\nDate\t2024/05/13\n"
        "***End_of_Header***\t\n\t\nChannels\t2\t\t\nSamples\t240\t240\t\nDelta_X\t0.001000\t0.001000\t\n"
        "***End_of_Header***\t\t\t\nX_Value\tVoltage_0\tVoltage_1\tComment\n"
        + _table("", lambda i: f"{i / 1000:.6f}\t{WAVE[i]:.6f}\t{BIG[i]:.6f}"),
        ("Voltage_0", "Voltage_1"),
        rate=1000.0,
        suffix=".lvm",
    ),
    "a Rigol oscilloscope": Form(
        "X,CH1,Start,Increment,\nSequence,Volt,-6.000e-03,5.000e-05,\n"
        + _table("", lambda i: f"{i},{WAVE[i] / 10:.3e},,,"),
        ("CH1",),
        {"X": "counter"},
        20000.0,
        notes=("20000 Hz as the file states it",),
    ),
    "a Tektronix oscilloscope": Form(
        "Model,MSO54\nWaveform Type,ANALOG\nSample Interval,4.0e-06\nRecord Length,240\n,,\nTIME,CH1,CH2\n"
        + _table("", lambda i: f"{i * 4e-6 - 5e-4:.6e},{WAVE[i] / 10:.4f},{BIG[i]:.2f}"),
        ("CH1", "CH2"),
        rate=250000.0,
    ),
    "a Keysight oscilloscope": Form(
        "x-axis,1,2\nsecond,Volt,Volt\n"
        + _table("", lambda i: f"{i * 1e-3 - 0.1:+.6E},{WAVE[i] / 10:+.6E},{BIG[i]:+.6E}"),
        ("1", "2"),
        rate=1000.0,
    ),
    "a power meter": Form(
        "Hersteller;XY\nSeriennummer;0815\n\nDatum Uhrzeit;U L1;I L1;P;Wirkenergie\n;V;A;W;kWh\n"
        + _table(
            "",
            lambda i: (
                f"{_at(i, _GERMAN)};{_de(WAVE[i] + 210)};{_de(WAVE[i] / 9, 3)};{_de(BIG[i], 1)};"
                f"{_de(12000 + i * 0.5 + i % 3 * 0.1, 1)}"
            ),
        ),
        ("U L1", "I L1", "P"),
        {"Wirkenergie": "never falls"},
        1.0,
        suffix=".asc",
    ),
    "vibration without a clock": Form(
        "# Sensor: ICP, channel 3\n# Sampling frequency: 25.6 kHz\n"
        + _table("", lambda i: f"{WAVE[i] - 20:.6f}"),
        ("1",),
        rate=25600.0,
        suffix=".dat",
    ),
    "an ECG without a clock": Form(
        _table("'MLII'\n", lambda i: f"{ADC[i]}"), ("MLII",), notes=("--sample-rate",), suffix=".txt"
    ),
    "network monitoring": Form(
        _table(
            "timestamp,host,rx_bytes_total,latency_ms,loss_pct,up\n",
            lambda i: (
                f"{_at(i, '%Y-%m-%dT%H:%M:%SZ', 60)},web-{i % 2},{10**9 + i * 52_111 + ADC[i]},"
                f"{abs(WAVE[i]):.1f},{min(abs(WAVE[i] - 20), 100):.2f},{int(i % 50 > 0)}"
            ),
        ),
        ("latency_ms", "loss_pct"),
        {"host": "text", "rx_bytes_total": "never falls", "up": "flag"},
        1 / 60,
        suffix=".log",
    ),
    "an IMU of a phone": Form(
        _table(
            "time,seconds_elapsed,z,y,x,yaw_deg\n",
            lambda i: (
                f"{1711836000000000000 + i * 10_000_000},{i / 100:.2f},{WAVE[i]:.4f},{WAVE[-i]:.4f},"
                f"{BIG[i] / 1e3:.4f},{(WAVE[i] * 18) % 360:.1f}"
            ),
        ),
        ("z", "y", "x"),
        {"yaw_deg": "angle", "seconds_elapsed": "time"},
        100.0,
    ),
    "a seismometer": Form(
        "TIMESERIES XX_ABC_00_BHZ_M, 240 samples, 20 sps, 2024-03-30T22:00:00, TSPAIR, INTEGER, Counts\n"
        + _table("", lambda i: f"{_at(i, '%Y-%m-%dT%H:%M:%S.%f', 0.05)}  {ADC[i]}"),
        ("2",),
        rate=20.0,
        suffix=".txt",
    ),
    "an activity tracker": Form(
        _table(
            "timestamp,steps,heart_rate,distance_m,sleep_stage\n",
            lambda i: (
                f"{_at(i, '%Y-%m-%d %H:%M:%S', 60)},{ADC[i] % 90},{WAVE[i] * 4:.0f},"
                f"{i * 3.1:.1f},{i // 40 % 4}"
            ),
        ),
        ("heart_rate",),
        {"steps": "count in whole steps", "distance_m": "never falls", "sleep_stage": "label"},
        1 / 60,
    ),
    "prose": Form(
        "How to read this folder.\n\n1. Open the 3 files.\n2. Look at 10:30.\n",
        refusal=("expected",),
        suffix=".txt",
    ),
    "Arduino's serial monitor": Form(
        _table("", lambda i: f"22:00:{i / 50:06.3f} -> {ADC[i]},{ADC[-i - 1]}"), ("2", "3"), rate=50.0
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_cleaned_where_it_should_be_and_nowhere_else(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    source, target = tmp_path / f"log{form.suffix}", tmp_path / f"new{form.suffix}"
    source.write_bytes(form.text.encode("utf-8"))
    if form.refusal:
        with pytest.raises(DenoiseError) as caught:
            CODEC.probe(source, only_measurements=True, **form.options)
        for words in (str(source), *form.refusal):
            assert words in str(caught.value)
        return
    with CODEC.reader(source, only_measurements=True, **form.options) as reader:
        info = reader.info
        values = np.concatenate(list(reader), axis=1)
    assert info.columns == form.cleaned
    assert info.sample_rate == (None if form.rate is None else pytest.approx(form.rate, rel=1e-4))
    left = " ".join(info.notes)
    for column, reason in form.left.items():
        assert column in info.names
        assert f"{column} ({reason}" in left
    for words in form.notes:
        assert words in left
    with CODEC.writer(target, info) as sink:
        sink.write(values + 0.3)
    _check_cells(source, target, form, values)


def _check_cells(source: Path, target: Path, form: Form, values: NDArray[np.float64]) -> None:
    """Compare the texts by the places of their cells, found from the source alone."""
    head = head_of(source, *(_mark(form, name) for name in ("delimiter", "decimal")))
    places = [index for index, name in enumerate(head.names) if name in form.cleaned]
    chosen = dict(zip(places, values, strict=True))
    texts = (path.read_bytes().decode("latin-1") for path in (source, target))
    before, after = (text.split(head.dialect.newline) for text in texts)
    assert len(before) == len(after)
    assert before[: head.line - 1] == after[: head.line - 1]
    row = 0
    for old, new in zip(before[head.line - 1 :], after[head.line - 1 :], strict=True):
        if not old.strip():
            assert old == new
            continue
        cells = head.dialect.split(old), head.dialect.split(new)
        assert len(cells[0]) == len(cells[1]) == head.width
        for index, (cell, changed) in enumerate(zip(*cells, strict=True)):
            if index in chosen and not np.isnan(chosen[index][row]):
                number = head.forms[index].number(changed)
                assert number == pytest.approx(_wrapped(chosen[index][row] + 0.3, form), abs=0.01)
            else:
                assert cell == changed
        row += 1
    assert row == values.shape[1]


def _columns(names: str, *cells: Callable[[int], object], end: str = "\n") -> str:
    """A table between commas."""
    return _table(names + end if names else "", lambda i: ",".join(str(cell(i)) for cell in cells), end=end)


def _x(index: int) -> str:
    return f"{WAVE[index]:.2f}"


def _load(index: int) -> str:
    return f"{BIG[index]:,.1f}"


_X = _columns("t_s,x", int, _x)
_SEMICOLONS = _table("t_s;x\n", lambda i: f"{i};{_x(i)}")

# Text, columns that are cleaned (none: refused), what the notes or the refusal say, and the rate.
ODD_FORMS: dict[str, tuple[str | bytes, tuple[str, ...], str, float | None]] = {
    # ---- refused: a reading that is not sure, or rows that are no samples of one recording
    "UTF-16 without a mark": (_X.encode("utf-16-le"), (), "line 1 holds binary data", None),
    "zeros behind the last row": (_X.encode() + bytes(99), (), "line 242 holds binary data", None),
    "thousands between commas": (_columns("t_s,W", int, _load), (), "names 2 columns", None),
    "thousands between commas, no header": (_columns("", _x, _load), (), "in which 3,425.0 may be", None),
    "decimal commas behind stamps": (
        _columns("", lambda i: _at(i, "%Y-%m-%d %H:%M:%S"), lambda i: _de(WAVE[i])),
        (),
        "in which 19,91 may be one number",
        None,
    ),
    "a sum below": (_X + "Total,4846.70\n", (), "line 242 holds 'Total' in the column of times", None),
    "a second table below": (_X + "\nf_Hz,psd\n" + "1,2.5\n" * 9, (), "line 243 holds 'f_Hz'", None),
    "a header again after a restart": (_X + _X, (), "line 242 holds 't_s'", None),
    "notes behind semicolons": (_X.replace("\n9,", "\n; gain, 2\n9,"), (), "line 11 holds '; gain'", None),
    "rows that become longer": (_X.replace("\n9,", "\n8.5,1,restart\n9,"), (), "line 11 has 3 cells", None),
    "rows that become shorter": (_X.replace("\n9,", "\n8.5\n9,"), (), "line 11 has 1 cell", None),
    "more names than cells": (_columns("t_s,x,y,z,T", int, _x, _x), (), "5 names such as 'T'", None),
    "one name more than cells": (_columns("t_s;x;y", lambda i: f"{i};{_x(i)}"), (), "3 names such as", None),
    "more units than cells": (_columns("t,x,y\ns,V,V", int, _x), (), "line 2 has 3 names", None),
    "a name for a few notes": (
        _table("t_s,x,note\n", lambda i: f"{i},{_x(i)}{',start' * (i % 50 == 0)}"),
        (),
        "3 names such as 'note', and the rows below have 2 cells",
        None,
    ),
    "a note behind the first row": (
        _table("t_s,x\n", lambda i: f"{i},{_x(i)}{',start' * (i == 0)}"),
        (),
        "line 2 has 3 cells",
        None,
    ),
    "another delimiter from half way on": (
        _table("t_s;x\n", lambda i: f"{i}{';' if i < 120 else ','}{_x(i)}"),
        (),
        "line 121 holds '119;22.10', and the rows below have 2 cells",
        None,
    ),
    "a row for each day": (
        _columns("date," + ",".join(f"{h}:00" for h in range(24)), int, *[_x] * 24),
        (),
        "unpivot",
        None,
    ),
    "one recording in rows of six": (
        _table("", lambda i: " ".join(str(ADC[(6 * i + k) % ROWS]) for k in range(6)), 40),
        (),
        "wrapped",
        None,
    ),
    "sensors in turn": (
        _columns(
            "time,sensor,C", lambda i: i // 3, lambda i: "abc"[i % 3], lambda i: f"{WAVE[i] + i % 3 * 9:.1f}"
        ),
        (),
        "'C' holds readings of 'a', 'b' ... in turn",
        None,
    ),
    "numbers of sensors in turn": (
        _columns(
            "time,sensor_id,C", lambda i: i // 2, lambda i: i % 2, lambda i: f"{WAVE[i] + i % 2 * 9:.1f}"
        ),
        (),
        "split the file by 'sensor_id'",
        None,
    ),
    "percent in some cells": (
        _columns("t_s,rh", int, lambda i: f"{WAVE[i]:.1f}%" if i else f"{WAVE[i]:.1f}"),
        (),
        "line 3 holds '20.0%'",
        None,
    ),
    "exponents of Fortran": (_X.replace(".", "D+"), (), "'19D+91' in line 2", None),
    "numbers that touch": (
        _table("", lambda i: f"{i:5d}{-BIG[i]:8.2f}{-BIG[i]:8.2f}"),
        (),
        "line 200 holds",
        None,
    ),
    "quoted lines": (_table('"t_s,x"\n', lambda i: f'"{i},{_x(i)}"'), (), "no column of numbers", None),
    # ---- read
    "line ends of both kinds": (_X.replace("1\n", "1\r\n"), ("x",), "1 Hz", 1.0),
    "line ends of old Macs": (_X.replace("\n", "\r"), ("x",), "1 Hz", 1.0),
    "two returns in each line end": (_X.replace("\n", "\r\r\n"), ("x",), "1 Hz", 1.0),
    "thousands alone": (_columns("", _load), ("1",), "no sample rate", None),
    "a delimiter behind each row": (_X.replace("\n", ",\n"), ("x",), "1 Hz", 1.0),
    "a delimiter before each row": (_table(",t_s,x\n", lambda i: f",{i},{_x(i)}"), ("x",), "1 Hz", 1.0),
    "two names alike": (_columns("t_s,x,x", int, _x, _x), ("x", "x"), "1 Hz", 1.0),
    "names of three lines": (
        _columns(",A,A\nTime,Acc X,Acc Y\ns,m/s²,m/s²", lambda i: i / 50, _x, _x),
        ("Acc X", "Acc Y"),
        "50 Hz",
        50.0,
    ),
    "years for names": (_columns(",2021,2022", int, _x, _load), (), "in which", None),
    "years for names, no thousands": (_columns(",2021,2022", int, _x, _x), ("2021", "2022"), "counter", None),
    "names in a comment of MATLAB": (
        _table("% fs = 500\n% t x\n", lambda i: f"{i / 500} {_x(i)}"),
        ("x",),
        "time column 't'",
        500.0,
    ),
    "the null of well logs": (
        _columns("t_s,x", int, lambda i: "-999.25" if i % 50 == 30 else _x(i)),
        ("x",),
        "-999.25 in x stands for a missing value (5 samples)",
        1.0,
    ),
    "a meter beyond its range": (
        _columns("t_s,x", int, lambda i: "OVER" if i % 50 == 30 else _x(i)),
        ("x",),
        "1 Hz",
        1.0,
    ),
    "names of two words between blanks": (
        _table("time s acc x\n", lambda i: f"{i} {_x(i)}"),
        ("2",),
        "line 1 does not name each of 2 columns",
        None,
    ),
    "a title above more columns": (
        _columns("Tank 3", int, _x, _x),
        ("2", "3"),
        "line 1 does not name each of 3 columns",
        None,
    ),
    "an inch in a name": (
        _table('t_s,"Pipe 3"" (mm)"\n', lambda i: f"{i},{_x(i)}"),
        ('Pipe 3" (mm)',),
        "1 Hz",
        1.0,
    ),
    "a name of two lines": (
        _table('t_s,"Temp\n(C)"\n', lambda i: f"{i},{_x(i)}"),
        ("Temp\n(C)",),
        "1 Hz",
        1.0,
    ),
    "a clock that starts again": (_columns("t_s,x", lambda i: i % 120, _x), ("x",), "'t_s' in s: 1 Hz", 1.0),
    "one row": ("t_s,x\n0,19.91\n", ("x",), "t_s (time)", None),
    "days without a mark": (
        _columns("date,x", lambda i: (START + timedelta(i)).strftime("%Y%m%d"), _x),
        ("x",),
        "'date' in s",
        1 / 86400,
    ),
    "days of the year": (
        _columns("doy,x", lambda i: f"{90 + i / 144:.5f}", _x),
        ("x",),
        "'doy' in d",
        1 / 600,
    ),
    "fractions of a year": (
        _columns("year,x", lambda i: f"{2000 + i / 12:.4f}", _x),
        ("x",),
        "year (never",
        None,
    ),
    "a zone in each stamp": (
        _columns("t,x", lambda i: _at(i, "%Y-%m-%dT%H:%M:%S+01:00"), _x),
        ("x",),
        "1 Hz",
        1.0,
    ),
    "microseconds since 1970": (
        _columns("timestamp,x", lambda i: 1711836000000000 + i * 4000, _x),
        ("x",),
        "us",
        250.0,
    ),
    "nanoseconds since 1970": (
        _columns("timestamp,x", lambda i: 1711836000000000000 + i * 10**6, _x),
        ("x",),
        "ns",
        1e3,
    ),
    "days of Excel between semicolons": (
        _table("Datum;x\n", lambda i: f"{45000 + i / 1440:.8f};{_x(i)}".replace(".", ",")),
        ("x",),
        "'Datum' in d",
        1 / 60,
    ),
    "infinities of an oscilloscope": (
        _columns("t_s,x", int, lambda i: "∞" if i == 50 else _x(i)),
        ("x",),
        "an infinity in x, line 52",
        1.0,
    ),
}


@pytest.mark.parametrize("name", ODD_FORMS)
def test_an_odd_form_is_read_right_or_refused(tmp_path: Path, name: str) -> None:
    text, cleaned, words, rate = ODD_FORMS[name]
    source, target = tmp_path / "log.csv", tmp_path / "new.csv"
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    if not cleaned:
        with pytest.raises(DenoiseError, match=re.escape(words)):
            CODEC.probe(source, only_measurements=True)
        return
    with CODEC.reader(source, only_measurements=True) as reader:
        info, values = reader.info, np.concatenate(list(reader), axis=1)
    assert info.columns == cleaned
    assert info.sample_rate == (rate and pytest.approx(rate, rel=1e-4))
    assert words in " ".join(info.notes)
    shift = 0.3 * np.arange(1, len(values) + 1)[:, None]
    with CODEC.writer(target, info) as sink:
        sink.write(values + shift)
    _check_cells(source, target, Form(str(text), cleaned), values + shift - 0.3)


def test_a_text_of_fixed_width_keeps_its_places(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(_table("", lambda i: f"{i:6d}{WAVE[i]:10.2f}  |"))
    values, info = io.read(tmp_path / "a.txt")
    io.write(tmp_path / "b.txt", values + 0.3, info)
    lines = (tmp_path / "b.txt").read_text().splitlines()
    assert {len(line) for line in lines} == {19}
    assert {float(line[6:16]) for line in lines} == {round(value, 2) for value in values[0] + 0.3}


def _wrapped(value: float, form: Form) -> float:
    return value % 360 if form.cleaned == ("heading_deg",) else value


def _mark(form: Form, name: str) -> str:
    return {**DELIMITERS, **DECIMALS}.get(form.options.get(name, ""), "")


def test_a_packed_table_is_read_and_packed_again(tmp_path: Path) -> None:
    text = FORMS["semicolons, status, decimal comma"].text.encode()
    source, target = tmp_path / "log.csv.gz", tmp_path / "new.csv.gz"
    source.write_bytes(gzip.compress(text))
    values, info = io.read(source)
    io.write(target, values + 1, info)
    assert gzip.decompress(target.read_bytes()).count(b";OK;") == ROWS
    np.testing.assert_allclose(io.read(target)[0], values + 1)
    source.write_bytes(gzip.compress(text)[:-300])
    with pytest.raises(UnreadableError, match="gzip"):
        io.read(source)


def test_tables_are_found_by_content_and_prose_is_left(tmp_path: Path) -> None:
    for name, form in (
        ("DWD", FORMS["DWD"]),
        ("ecg", FORMS["an ECG without a clock"]),
        ("readme", FORMS["prose"]),
    ):
        (tmp_path / f"{name}.txt").write_text(form.text)
    found = find([tmp_path])
    assert [source.path.name for source in found.sources] == ["DWD.txt", "ecg.txt"]
    assert [item.path.name for item in found.ignored] == ["readme.txt"]
    assert not found.problems
    assert io.modality(tmp_path / "DWD.txt").name == "sensor"


def test_a_recording_that_belongs_to_a_record_is_no_speech(tmp_path: Path) -> None:
    (tmp_path / "r1.flac").write_bytes(b"fLaC" + bytes(60))
    (tmp_path / "r1.hea").write_text("r1 1 360\nr1.flac 516 200 16 0 0 0 0 I\n")
    assert [source.path.name for source in find([tmp_path]).sources] == ["r1.hea"]
    with pytest.raises(UnreadableError, match=r"r1\.flac: .*expected samples packed as FLAC"):
        io.probe(tmp_path / "r1.hea")
    (tmp_path / "r2.flac").write_bytes(b"fLaC" + bytes(60))
    assert [source.modality for source in find([tmp_path]).sources] == ["sensor", "audio"]


def test_a_log_of_nothing_but_states_is_copied_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(_table("time_s,relay\n", lambda i: f"{i},{i // 9 % 2}"))
    report = clean_file(tmp_path / "a.csv", tmp_path / "b.csv", "savgol")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert report.model == "none"
    assert any("relay (flag)" in note and "--columns" in note for note in report.notes)
    assert any("only copied: relay (flag)" in note for note in io.probe(tmp_path / "a.csv").notes)


def test_a_cleaned_column_stays_in_its_bounds_and_keeps_its_decimals(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        _table(
            "time_s,rh_pct,flow\n",
            lambda i: f"{i},{min(90 + WAVE[i] / 2, 100):.1f},{max(WAVE[i] - 20, 0):.2f}",
        )
    )
    for keep, decimals in ((False, 3), (True, 1)):
        _, info = io.read(tmp_path / "a.csv", keep_resolution=keep)
        wild = np.where(np.arange(ROWS) % 2, -7.06, 105.06) * np.ones((2, 1))
        io.write(tmp_path / "b.csv", wild, info)
        rows = [line.split(",")[1:] for line in (tmp_path / "b.csv").read_text().split()[1:]]
        new = np.array(rows, float)
        assert (new[:, 0].min(), new[:, 0].max(), new[:, 1].min()) == (0, 100, 0)
        assert all(len(row[0].split(".")[1]) in (1, decimals) for row in rows)


LOGS = {
    "Weather station": "DWD",
    "Data logger (Campbell TOA5)": "Campbell TOA5",
    "Oscilloscope": "a Tektronix oscilloscope",
    "ECG": "an ECG without a clock",
    "IMU": "an IMU of a phone",
    "Power meter": "a power meter",
    "Vibration": "vibration without a clock",
    "Network monitoring": "network monitoring",
    "Seismometer": "a seismometer",
    "Activity tracker": "an activity tracker",
}


@pytest.mark.parametrize("title", LOGS)
def test_the_document_shows_the_file_and_the_notes_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    form = FORMS[LOGS[title]]
    document = (Path(__file__).parents[3] / "docs" / "logs.md").read_text()
    section = document.partition(f"## {title}\n")[2].partition("\n## ")[0]
    excerpt, notes = (block.partition("\n```")[0] for block in section.split("```text\n")[1:])
    assert excerpt.splitlines() == [line[:110] for line in form.text.split("\n")[: len(excerpt.splitlines())]]
    command = section.partition("$ denoise ")[2].partition("\n")[0].split()
    path = tmp_path / command[1]
    path.write_text(form.text)
    assert tuple(notes.splitlines()) == CODEC.probe(path).notes
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    info = CODEC.probe(tmp_path / "cleaned" / path.name)
    assert (info.names, info.shape) == (CODEC.probe(path).names, CODEC.probe(path).shape)


def test_a_named_heading_is_cleaned_on_the_circle(tmp_path: Path) -> None:
    """Between 350 and 10 degrees a filter of plain numbers would point south."""
    true = 8 * np.sin(np.arange(ROWS) / 40)
    noisy = (true + np.random.default_rng(7).normal(0, 2, ROWS)) % 360
    (tmp_path / "a.csv").write_text(_table("time_s,heading_deg\n", lambda i: f"{i},{noisy[i]:.2f}"))
    clean_file(tmp_path / "a.csv", tmp_path / "b.csv", "savgol", columns=("heading_deg",))
    new = np.loadtxt(tmp_path / "b.csv", delimiter=",", skiprows=1)[:, 1]
    error, before = (abs((values - true + 180) % 360 - 180) for values in (new, noisy))
    assert error.max() < 10
    assert np.sqrt(np.mean(error**2)) < 0.7 * np.sqrt(np.mean(before**2))
    assert new.min() >= 0
    assert new.max() < 360


@pytest.mark.parametrize("note", ["note", ""])
def test_numbers_above_numbers_are_no_names(tmp_path: Path, note: str) -> None:
    rows = [f"{row / 10:.1f},{row * 7 % 5 + 0.5:.1f},{note if row == 0 else ''}\n" for row in range(40)]
    (tmp_path / "a.csv").write_text("".join(rows))
    array, info = io.read(tmp_path / "a.csv")
    assert array.shape[1] == 40
    assert info.names == ("1", "2", "3")
    (tmp_path / "a.csv").write_text("time,1,note\n" + "".join(rows))
    assert io.read(tmp_path / "a.csv")[1].names == ("time", "1", "note")


def test_ticks_of_dotnet_are_a_clock(tmp_path: Path) -> None:
    rows = [f"{638_474_400_000_000_000 + 100_000 * row},{row * 7 % 5 + 0.25:.2f}\n" for row in range(200)]
    (tmp_path / "a.csv").write_text("Timestamp,x\n" + "".join(rows))
    info = io.probe(tmp_path / "a.csv")
    assert info.sample_rate == pytest.approx(100.0)
    assert any("time column 'Timestamp' in ticks (guessed): 100 Hz" in note for note in info.notes)


def test_a_table_wider_than_the_sample_is_high_is_no_recording_on_its_side(tmp_path: Path) -> None:
    """The first 256 kB of a table of 600 channels hold fewer rows than it has."""
    values = np.random.default_rng(0).standard_normal((400, 600)).round(3)
    head = ",".join(f"c{number}" for number in range(600))
    (tmp_path / "a.csv").write_text("\n".join([head, *(",".join(map(str, row)) for row in values.tolist())]))
    assert io.probe(tmp_path / "a.csv").shape == (600, 400)
