"""Where the sun stands, and what a clear sky sends down. Within half a degree, which is enough for a panel.

Cooper's declination, Spencer's equation of time, Meinel's clear-sky beam with a tenth of it diffuse
(Duffie and Beckman, Solar Engineering of Thermal Processes; Meinel and Meinel, Applied Solar Energy).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import acos, asin, atan2, cos, degrees, pi, radians, sin

SOLAR_CONSTANT_W_M2 = 1353.0
DIFFUSE_SHARE = 0.1
SECONDS_A_DAY = 86400.0
# 365.2425 days.
SECONDS_A_YEAR = 31_556_952.0


@dataclass(frozen=True, slots=True)
class Sun:
    """``elevation`` above the horizon and ``azimuth`` clockwise from north, in degrees."""

    elevation: float
    azimuth: float


def position(latitude: float, longitude: float, wall: float) -> Sun:
    """At a place (degrees, north and east positive) and a moment (seconds since 1970, UTC)."""
    day = (wall % SECONDS_A_YEAR) / SECONDS_A_DAY + 1
    declination = radians(23.45) * sin(2 * pi * (284 + day) / 365.2425)
    angle = 2 * pi * (day - 1) / 365.2425
    equation_min = 229.18 * (
        0.000075 + 0.001868 * cos(angle) - 0.032077 * sin(angle) - 0.014615 * cos(2 * angle) - 0.04089 * sin(2 * angle)
    )
    solar_h = (wall % SECONDS_A_DAY) / 3600 + longitude / 15 + equation_min / 60
    hour = radians(15 * (solar_h - 12))
    phi = radians(latitude)
    height = sin(phi) * sin(declination) + cos(phi) * cos(declination) * cos(hour)
    south = sin(phi) * cos(declination) * cos(hour) - cos(phi) * sin(declination)
    west = cos(declination) * sin(hour)
    return Sun(degrees(asin(max(-1.0, min(1.0, height)))), (degrees(atan2(west, south)) + 180) % 360)


def irradiance(sun: Sun, tilt: float, azimuth: float) -> float:
    """W/m² on a plane that leans ``tilt`` degrees from flat towards ``azimuth``, under a clear sky."""
    height = sin(radians(sun.elevation))
    if height <= 0:
        return 0.0
    # Kasten and Young's air mass, finite at the horizon.
    mass: float = 1 / (height + 0.50572 * (sun.elevation + 6.07995) ** -1.6364)
    beam: float = SOLAR_CONSTANT_W_M2 * 0.7 ** (mass**0.678)
    lean = radians(tilt)
    facing = height * cos(lean) + cos(radians(sun.elevation)) * sin(lean) * cos(radians(sun.azimuth - azimuth))
    return beam * max(facing, 0.0) + DIFFUSE_SHARE * beam * height * (1 + cos(lean)) / 2


def day_length_h(latitude: float, wall: float) -> float:
    """Hours between sunrise and sunset of that day, without refraction."""
    day = (wall % SECONDS_A_YEAR) / SECONDS_A_DAY + 1
    declination = radians(23.45) * sin(2 * pi * (284 + day) / 365.2425)
    x = -sin(radians(latitude)) * sin(declination) / (cos(radians(latitude)) * cos(declination))
    return 2 * degrees(acos(max(-1.0, min(1.0, x)))) / 15
