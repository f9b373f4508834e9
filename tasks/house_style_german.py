"""House style: everyday questions in English, answered in German as the context asks."""

from opcd_bench.envs.house_style import HouseStyle, speaks


class HouseStyleGerman(HouseStyle):
    """Right if IFEval's checker finds a response in German."""

    name = "house_style_german"
    version = 1
    summary = "everyday questions; the context is a system prompt that asks for answers in German"
    rule = speaks("German", "de")
    other = speaks("Spanish", "es")


TASK = HouseStyleGerman
