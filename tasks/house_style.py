"""House style: everyday questions in English, answered in Spanish as the context asks."""

from opcd_bench.envs.house_style import HouseStyle


class HouseStyleSpanish(HouseStyle):
    """Right if IFEval's checker finds a response in Spanish."""

    name = "house_style"
    version = 1
    summary = "everyday questions; the context is a system prompt that asks for answers in Spanish"


TASK = HouseStyleSpanish
