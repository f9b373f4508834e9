"""House style: everyday questions in English, answered in French as the context asks."""

from opcd_bench.envs.house_style import HouseStyle, speaks


class HouseStyleFrench(HouseStyle):
    """Right if IFEval's checker finds a response in French."""

    name = "house_style_french"
    version = 1
    summary = "everyday questions; the context is a system prompt that asks for answers in French"
    rule = speaks("French", "fr")
    other = speaks("Spanish", "es")


TASK = HouseStyleFrench
