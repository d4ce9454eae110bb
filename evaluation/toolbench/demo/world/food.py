"""Recipes and cafés."""

from evaluation.toolbench.demo.world.schema import Api, Call, Task, Tool, number, text

TOOLS = (
    Tool(
        "Food",
        "Recipe Box",
        "Recipes, ingredients and calories.",
        (
            Api(
                "Search Recipe",
                "Recipe of a dish.",
                (text("dish", "Dish name"),),
                {"recipe_id": "code", "minutes": "count"},
            ),
            Api(
                "Ingredients",
                "Ingredients of a recipe.",
                (text("recipe_id", "Recipe id"),),
                {"ingredients": "ingredients"},
            ),
            Api(
                "Calories",
                "Calories of a dish.",
                (text("dish", "Dish name"), number("grams", "Weight")),
                {"calories": "number"},
            ),
        ),
    ),
    Tool(
        "Food",
        "Café Finder",  # its token is ASCII, its name is not: the published catalog has 483 such tools
        "Cafés, their hours and their tables.",
        (
            Api(
                "Find Café",
                "Best café of a city.",
                (text("city", "City name"),),
                {"cafe": "venue", "street": "street"},
            ),
            Api(
                "Opening Hours",
                "When a café is open.",
                (text("cafe", "Café name"),),
                {"opens": "clock", "closes": "clock"},
            ),
            Api(
                "Book Table",
                "Book a table in a café.",
                (text("cafe", "Café name"), text("date", "Date"), number("guests", "Guests")),
                {"booking": "code", "time": "clock"},
            ),
        ),
    ),
)

TASKS = (
    Task(
        "recipe",
        {"dish": "dish"},
        (Call("Recipe Box", "Search Recipe", "I should search for a recipe of {dish}.", {"dish": "{dish}"}),),
        "I have found the recipe.",
        "The recipe of {dish} is {1.recipe_id} and takes {1.minutes} minutes.",
        """
        (Find|Search|Show me|Give me) (a|the) recipe (for|of) {dish}.
        How (long|many minutes) does it take to (cook|bake|make|prepare) {dish}?
        (How do I|How can I|I want to) (cook|bake|make|prepare) {dish}(, which recipe is it|, is there a recipe)?
        (How do I|How can I|I want to) (cook|bake|make|prepare) {dish}, find a recipe?
        (Is there|Do you have|Do you know) a recipe (for|of) {dish}?
        I (need|want|look for) a recipe (for|of) {dish}.
        (Recipe|A recipe) of {dish}, please.
        """,
        """
        I want to bake {dish} today, do you know a recipe?
        """,
    ),
    Task(
        "ingredients",
        {"recipe": "code"},
        (
            Call(
                "Recipe Box",
                "Ingredients",
                "I should look up the ingredients of {recipe}.",
                {"recipe_id": "{recipe}"},
            ),
        ),
        "I know the ingredients.",
        "The ingredients of {recipe}: {1.ingredients}.",
        """
        (What|Which ingredients) (do I need|should I buy|are needed|must I buy) for recipe {recipe}?
        (What are|Tell me|Give me|List|Show me) the ingredients (of|for|in) recipe {recipe}.
        What (is|goes|do I put) in recipe {recipe}?
        I (cook|make|want to cook) recipe {recipe}, (what do I need|what should I buy|which ingredients are in it)?
        (Ingredients|Shopping list) (of|for) recipe {recipe}, please.
        """,
        """
        Which ingredients should I put in when I cook recipe {recipe}?
        """,
    ),
    Task(
        "dish_ingredients",
        {"dish": "dish"},
        (
            Call("Recipe Box", "Search Recipe", "First I need the recipe of {dish}.", {"dish": "{dish}"}),
            Call(
                "Recipe Box",
                "Ingredients",
                "The recipe is {1.recipe_id}, now I look up its ingredients.",
                {"recipe_id": "{1.recipe_id}"},
            ),
        ),
        "I know the ingredients.",
        "For {dish} you need: {2.ingredients}.",
        """
        (What|Which ingredients) (do I need|should I buy|are needed|must I buy) (for|to make|to cook) {dish}?
        (What are|Tell me|Give me|List|Show me) the ingredients (of|for|in) {dish}.
        What (is|goes|do I put) in {dish}?
        I (cook|make|want to cook|want to make) {dish}, (what do I need|what should I buy|which ingredients are in it)?
        (Ingredients|Shopping list) (of|for) {dish}, please.
        """,
        """
        I want to make {dish}. Which ingredients must I buy?
        """,
    ),
    Task(
        "calories",
        {"dish": "dish", "grams": "amount"},
        (
            Call(
                "Recipe Box",
                "Calories",
                "I should look up the calories of {grams} grams of {dish}.",
                {"dish": "{dish}", "grams": "{grams}"},
            ),
        ),
        "I know the calories.",
        "{grams} grams of {dish} have {1.calories} calories.",
        """
        How many calories (are in|do I eat with|have|has) {grams} grams of {dish}?
        (What are|Tell me|Give me|Find) the calories (of|in|for) {grams} grams of {dish}.
        I (ate|eat|had) {grams} grams of {dish}, how many calories (is that|are that|did I eat)?
        (Count|Look up) the calories of {dish}, {grams} grams.
        Calories (of|in) {grams} grams {dish}, please.
        """,
        """
        I had {dish} today, {grams} grams of it. How many calories are in that?
        """,
    ),
    Task(
        "cafe",
        {"city": "place"},
        (Call("Café Finder", "Find Café", "I should find a cafe in {city}.", {"city": "{city}"}),),
        "I have found a cafe.",
        "Try {1.cafe} in {city}, at {1.street}.",
        """
        (Find|Show|Recommend|Give) me (a|a good|the best|a nice) cafe in {city}.
        (What is|Which is|Tell me) the best cafe (in|of) {city}?
        Where (can|should|could) I (drink|have|get) (a coffee|coffee|good coffee|a cup of tea) in {city}?
        I (need|want|look for) a (cafe|good cafe|nice cafe|cup of coffee) in {city}.
        (Which|What) cafe (do you recommend|is good|is best) in {city}?
        I (am going|travel) to {city}, (find me a cafe|which cafe is nice|where can I drink coffee)?
        """,
        """
        Where in {city} can I have a good cup of coffee?
        """,
    ),
    Task(
        "hours",
        {"cafe": "venue"},
        (Call("Café Finder", "Opening Hours", "I should look up the hours of {cafe}.", {"cafe": "{cafe}"}),),
        "I know the opening hours.",
        "The cafe {cafe} opens at {1.opens} and closes at {1.closes}.",
        """
        (When|What time) (does|will) the cafe {cafe} (open|close|open and close)?
        (What are|Tell me|Give me|Find|Show me) the (hours|opening hours) of the cafe {cafe}.
        (Until when|How long|From when) is the cafe {cafe} open(?| today?)
        Is the cafe {cafe} (open|closed|still open) (now|today)?
        (Hours|Opening hours) of the cafe {cafe}, please.
        """,
        """
        I want to know how long the cafe {cafe} is open today.
        """,
    ),
    Task(
        "city_hours",
        {"city": "place"},
        (
            Call("Café Finder", "Find Café", "First I need a cafe in {city}.", {"city": "{city}"}),
            Call(
                "Café Finder",
                "Opening Hours",
                "The cafe is {1.cafe}, now I look up its hours.",
                {"cafe": "{1.cafe}"},
            ),
        ),
        "I know the opening hours.",
        "In {city}, {1.cafe} opens at {2.opens} and closes at {2.closes}.",
        """
        (When|What time) (does|will) (a|the best|a good) cafe in {city} (open|close|open and close)?
        (What are|Tell me|Give me|Find|Show me) the (hours|opening hours) of (a|the best|a good) cafe in {city}.
        (Until when|How long|From when) is (a|the best|a good) cafe in {city} open(?| today?)
        Find (a|a good|the best) cafe in {city} and (its hours|its opening hours|tell me when it opens).
        (Hours|Opening hours) of (a|the best|a good) cafe in {city}, please.
        """,
        """
        Find a good cafe in {city} and tell me when it closes.
        """,
    ),
    Task(
        "table",
        {"cafe": "venue", "date": "date", "guests": "count"},
        (
            Call(
                "Café Finder",
                "Book Table",
                "I should book a table in {cafe} on {date}.",
                {"cafe": "{cafe}", "date": "{date}", "guests": "{guests}"},
            ),
        ),
        "The table is booked.",
        "Your table in {cafe} is booked for {1.time}, the booking is {1.booking}.",
        """
        (Book|Reserve|Get me) a table (in|at) the cafe {cafe} (on|for) {date} for {guests} (guests|people|persons).
        (Book|Reserve) a table for {guests} (guests|people|persons) (in|at) the cafe {cafe} on {date}.
        I (want|need|would like) a table for {guests} (in|at) the cafe {cafe} on {date}.
        We are {guests} (guests|people|persons) and (want|need|would like) a table (in|at) the cafe {cafe} on {date}.
        On {date} we (want to go|go) to the cafe {cafe}, (book|reserve) a table for {guests} (guests|people).
        """,
        """
        On {date} I need a table at the cafe {cafe}, we are {guests} people.
        """,
    ),
)
