"""Days since 1970-01-01 in the Gregorian calendar, without a clock. Its years are counted from March here."""


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days."""
    shifted = days + 719_468
    era, of_era = divmod(shifted, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day_of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    month = month_index + 3 if month_index < 10 else month_index - 9
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    return year_of_era + era * 400 + (month <= 2), month, day


def days_of(year: int, month: int, day: int) -> int:
    """The number of days of a date. One that the calendar does not have is counted on: April 31 is May 1."""
    years = year - (month <= 2)
    era, of_era = divmod(years, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 719_468
