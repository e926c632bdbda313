"""The exams of components, a module a kind; see `mailhub.testing.exams`."""
