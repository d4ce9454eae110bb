"""Defines recipes and cafés."""

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
                {"recipe_id": "code", "minutes": "number"},
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
                {"calories": "amount"},
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
        <tell> (a|the) recipe (for|of) {dish}.
        How (long|many minutes) does it take to (cook|bake|make|prepare) {dish}?
        (How do I|How can I|How should I) (cook|bake|make|prepare) {dish}(?|, which recipe is it?|, is there a recipe?)
        I <want> (cook|bake|make|prepare) {dish}(, find a recipe.|, which recipe is it?)
        I <want> (cook|bake|make|prepare) {dish}(, is there a recipe?|, do you have a recipe?)
        (Is there|Do you have|Do you know|Have you got) (a|any) recipe (for|of) {dish}?
        I (need|want|look for|am looking for) a (recipe|good recipe) (for|of) {dish}(.| today.)
        (Recipe|A recipe|A good recipe) (of|for) {dish}, please.
        (Today|Tonight|Tomorrow) I (cook|bake|make|prepare) {dish}, find a recipe?
        (Today|Tonight|Tomorrow) I (cook|bake|make|prepare) {dish}, (do you know how|which recipe is good)?
        <know> (how to cook|how to bake|how to make|how to prepare) {dish}.
        Which recipe (is there|do you know|do you have) for {dish}?
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
        (What|Which ingredients) (do I need|should I buy|are needed) (for|in) recipe {recipe}?
        (What|Which ingredients) (must I buy|should I put in|are) (for|in) recipe {recipe}?
        What are the ingredients (of|for|in) recipe {recipe}?
        <tell> the ingredients (of|for|in) recipe {recipe}.
        (What|Which ingredients) (is|goes|go|do I put|should I put) in recipe {recipe}?
        I (cook|make|want to cook|bake) recipe {recipe}, (what do I need|what should I buy|which ingredients are in it)?
        I (cook|make|want to cook|bake) recipe {recipe}, (what do I put in|which ingredients do I need)?
        (Ingredients|Shopping list) (of|for) recipe {recipe}, please.
        When I (cook|make|bake) recipe {recipe}, (what do I put in|which ingredients do I need|what should I buy)?
        <know> (what is in|what goes in|the ingredients of|what to buy for) recipe {recipe}.
        (Write|Make) a shopping list for recipe {recipe}.
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
        (What|Which ingredients) (do I need|should I buy|are needed|must I buy|are) (for|to make|to cook|in) {dish}?
        What are the ingredients (of|for|in) {dish}?
        <tell> the ingredients (of|for|in) {dish}.
        (What|Which ingredients) (is|goes|go|do I put) in {dish}?
        I (cook|make|want to cook|want to make) {dish}, (what do I need|what should I buy|which ingredients are in it)?
        (Today|Tonight|Tomorrow) I (cook|make|want to cook|want to make) {dish}, what must I buy?
        (Today|Tonight|Tomorrow) I (cook|make|want to cook|want to make) {dish}, which ingredients do I need?
        (Ingredients|Shopping list) (of|for) {dish}, please.
        When I (cook|make|bake) {dish}, (what do I need|which ingredients do I need|what must I buy)?
        <know> (what is in|what goes in|the ingredients of|what to buy for|which ingredients are in) {dish}.
        (Write|Make) a shopping list for {dish}.
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
        How many calories (are in|do I eat with|have|has|do I get from) {grams} grams of {dish}?
        What are the calories (of|in|for) {grams} grams of {dish}?
        <tell> the calories (of|in|for) {grams} grams of {dish}.
        I (ate|eat|had|want to eat) {grams} grams of {dish}, how many calories (is that|are that|did I eat|are in it)?
        (Today|Yesterday) I (ate|had) {grams} grams of {dish}, how many calories (is that|are that|are in that)?
        (Count|Look up) the calories of {dish}, {grams} grams.
        Calories (of|in) {grams} grams (of |){dish}, please.
        How (fat|heavy|healthy) (is|are) {grams} grams of {dish}, in calories?
        I (ate|had|cooked) {dish}, {grams} grams, (how many calories is it|what are the calories)?
        <know> how many calories (are in|I get from) {grams} grams of {dish}.
        {dish}, {grams} grams: (calories|how many calories), please.
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
        (What|Which) is (the best|a good|a nice) cafe (in|of) {city}?
        Where (can|should|could|do) I (drink|have|get|find) (a coffee|coffee) in {city}?
        Where (can|should|could|do) I (drink|have|get|find) (good coffee|a cup of tea|a cup of coffee) in {city}?
        I (need|want|look for|am looking for) a (cafe|good cafe|nice cafe|cup of coffee|coffee) in {city}.
        (Which|What) cafe (do you recommend|is good|is best|is nice) in {city}?
        <trip> to {city}, (find me a cafe|which cafe is nice|where can I drink coffee|where can I have coffee)?
        <at> {city}, (find me a cafe|which cafe is good|where can I get a cup of tea|where can I have a coffee)?
        I <want> (drink|have|get) (a coffee|coffee) in {city}(.|, where can I go?|, which cafe is good?)
        I <want> (drink|have|get) (a cup of tea|a cup of coffee) in {city}(.|, where can I go?|, which cafe is good?)
        <tell> (a|a good|the best|a nice) cafe (in|of) {city}.
        <know> (which cafe is good|where to drink coffee|where to have a coffee) in {city}.
        (A cafe|A good cafe|The best cafe|A nice cafe) in {city}, please.
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
        (When|What time|At what time) (does|will) the cafe {cafe} (open|close|open and close)(?| today?)
        What are the (hours|opening hours) of the cafe {cafe}?
        <tell> the (hours|opening hours) of the cafe {cafe}(.| today.)
        (Until when|How long|From when|Since when) is the cafe {cafe} open(?| today?| now?)
        Is the cafe {cafe} (open|closed|still open) (now|today|tonight)?
        (Hours|Opening hours) of the cafe {cafe}, please.
        I <want> (go to|visit) the cafe {cafe}(, when does it open?|, until when is it open?)
        I <want> (go to|visit) the cafe {cafe}(, how long is it open?| today, is it open?)
        <know> (when the cafe {cafe} opens|when the cafe {cafe} closes|until when the cafe {cafe} is open).
        <know> (if the cafe {cafe} is open|the opening hours of the cafe {cafe})(.| now.| today.)
        Cafe {cafe}: (hours|opening hours), please.
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
        (When|What time|At what time) (does|will) (a|the best|a good) cafe in {city} (open|close|open and close)?
        What are the (hours|opening hours) of (a|the best|a good) cafe in {city}?
        <tell> the (hours|opening hours) of (a|the best|a good) cafe in {city}.
        (Until when|How long|From when) is (a|the best|a good) cafe in {city} open(?| today?)
        Find (a|a nice|the best) cafe in {city} and (its hours|its opening hours).
        Find (a|a nice|the best) cafe in {city} and (tell me when it opens|until when it is open).
        (Find|Show) me (a|a nice|a good|the best) cafe in {city} and its hours.
        (Find|Show) me (a|a nice|a good|the best) cafe in {city} and (say when it closes|tell me when it closes).
        Which cafe in {city} is (good|best|nice), and (when does it open|when does it close|until when is it open)?
        <trip> to {city}, (until when is a good cafe open|when does the best cafe open|when does a good cafe close)?
        (Hours|Opening hours) of (a|the best|a good) cafe in {city}, please.
        <know> when (a|the best|a good) cafe in {city} (opens|closes|opens and closes).
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
        (Book|Reserve) a table (in|at) the cafe {cafe} (on|for) {date} for {guests} (guests|people|persons).
        (Get me|I need|I want) a table (in|at) the cafe {cafe} (on|for) {date} for {guests} (guests|people|persons).
        (Book|Reserve) a table for {guests} (guests|people|persons) (in|at) the cafe {cafe} on {date}.
        (Get me|I need|I want) a table for {guests} (guests|people|persons) (in|at) the cafe {cafe} on {date}.
        Can you (book|reserve) a table (in|at) the cafe {cafe} on {date} for {guests} (guests|people|persons).
        (Could you|Please) (book|reserve) a table (in|at) the cafe {cafe} on {date} for {guests} guests.
        (Could you|Please) (book|reserve) a table (in|at) the cafe {cafe} on {date} for {guests} (people|persons).
        I (want|need|would like) a table for {guests} (in|at) the cafe {cafe} on {date}.
        We are {guests} (guests|people|persons) and (want|need|would like) a table (in|at) the cafe {cafe} on {date}.
        On {date} we (want to go|go) to the cafe {cafe}, (book|reserve) a table for {guests} (guests|people|persons).
        On {date} (we|I) (want|need|would like) a table for {guests} (guests|people|persons) (in|at) the cafe {cafe}.
        On {date} we are {guests} (guests|people|persons), (book|reserve|get) a table (in|at) the cafe {cafe}.
        A table (in|at) the cafe {cafe} for {guests} (guests|people|persons) on {date}, please.
        I <want> (book|reserve|get) a table (in|at) the cafe {cafe} on {date}, we are {guests}(.| guests.| persons.)
        For {guests} (guests|people|persons), (book|reserve) a table (in|at) the cafe {cafe} on {date}.
        """,
        """
        On {date} I need a table at the cafe {cafe}, we are {guests} people.
        """,
    ),
)
