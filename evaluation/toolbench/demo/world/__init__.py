"""Lists the demo's world: every tool and every task, in the order of their tool tokens.

Reading order: `values` (what fills slots and answers), `schema` (what tools and tasks are), then the tools and tasks
themselves: `travel`, `food`, `leisure`, `services`.
"""

from evaluation.toolbench.demo.world import food, leisure, services, travel
from evaluation.toolbench.demo.world.schema import Task, Tool

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (*travel.TOOLS, *food.TOOLS, *leisure.TOOLS, *services.TOOLS)}
TASKS: tuple[Task, ...] = (*travel.TASKS, *food.TASKS, *leisure.TASKS, *services.TASKS)
