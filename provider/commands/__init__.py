"""The commands that a person types: one folder each, and here what several of them share. Read `app` first."""
