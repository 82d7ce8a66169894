"""Training of small recognizers: recipe, heads, schedule, loop, and the card of the result.

It stands beside the commands: it uses the rooms, and no room knows it.
"""
