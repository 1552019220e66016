"""The run file: its schema, how it is read, what its names stand for, and how a mistake in it is explained.

Nothing here looks at the machine or loads a model.
"""
