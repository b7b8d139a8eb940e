"""What the board under us tells about itself: cores, clocks, temperatures, throttling, power. Nothing here is changed.

Everything is read below a root folder, so that what another board tells can be read here.
"""
