"""House style: everyday questions in English, answered in Italian as the context asks."""

from opcd_bench.envs.house_style import HouseStyle, speaks


class HouseStyleItalian(HouseStyle):
    """Right if IFEval's checker finds a response in Italian."""

    name = "house_style_italian"
    version = 1
    summary = "everyday questions; the context is a system prompt that asks for answers in Italian"
    rule = speaks("Italian", "it")
    other = speaks("Spanish", "es")


TASK = HouseStyleItalian
