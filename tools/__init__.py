"""Programs for the maintainers of this repository; no part of the package."""
