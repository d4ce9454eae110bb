"""Lists the demo's world: every tool and every task, in the order of their tool tokens."""

from evaluation.toolbench.demo.world import food, leisure, services, travel
from evaluation.toolbench.demo.world.schema import Task, Tool

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (*travel.TOOLS, *food.TOOLS, *leisure.TOOLS, *services.TOOLS)}
TASKS: tuple[Task, ...] = (*travel.TASKS, *food.TASKS, *leisure.TASKS, *services.TASKS)
