"""The first call of a kernel is slow: no deadlines."""

from hypothesis import settings

settings.register_profile("sample", deadline=None)
settings.load_profile("sample")
