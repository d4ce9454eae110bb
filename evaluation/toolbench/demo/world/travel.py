"""Weather, trains and hotels."""

from evaluation.toolbench.demo.world.schema import Api, Call, Task, Tool, number, text

TOOLS = (
    Tool(
        "Weather",
        "Sky Watch",
        "Weather, air and daylight for any place.",
        (
            Api(
                "Daily Forecast",
                "Weather forecast for a city.",
                (text("city", "City name"),),
                {"city": "=city", "sky": "sky", "high": "degrees"},
                (number("days", "Days ahead"),),
            ),
            Api(
                "Air Quality",
                "Air quality now.",
                (text("city", "City name"),),
                {"city": "=city", "index": "number", "level": "air"},
            ),
            Api(
                "Sun Times",
                "Sunrise and sunset on a date.",
                (text("city", "City name"), text("date", "Date")),
                {"sunrise": "clock", "sunset": "clock"},
            ),
        ),
    ),
    Tool(
        "Transportation",
        "Rail Planner",
        "Stations, departures and ticket prices.",
        (
            Api(
                "Find Station",
                "Main station of a city.",
                (text("city", "City name"),),
                {"station_id": "code", "street": "street"},
            ),
            Api(
                "Departures",
                "Next train from a station.",
                (text("station_id", "Station id"),),
                {"train": "code", "to": "place", "leaves": "clock"},
            ),
            Api(
                "Ticket Price",
                "Price of a train ticket.",
                (text("origin", "From"), text("destination", "To")),
                {"price": "number", "currency": "currency"},
            ),
        ),
    ),
    Tool(
        "Travel",
        "Hotel Desk",
        "Hotels with their prices and contacts.",
        (
            Api(
                "Find Hotel",
                "Best hotel of a city.",
                (text("city", "City name"),),
                {"hotel_id": "code", "hotel": "venue", "rating": "count"},
            ),
            Api(
                "Room Price",
                "Price of a stay.",
                (text("hotel_id", "Hotel id"), number("nights", "Nights")),
                {"total": "amount", "currency": "currency"},
            ),
            Api(
                "Hotel Contact",
                "Phone and email of a hotel.",
                (text("hotel", "Hotel name"),),
                {"phone": "phone", "email": "email"},
            ),
        ),
    ),
)

TASKS = (
    Task(
        "forecast",
        {"city": "place"},
        (Call("Sky Watch", "Daily Forecast", "I should look up the forecast for {city}.", {"city": "{city}"}),),
        "I know the forecast.",
        "The forecast for {city}: {1.sky}, up to {1.high} degrees.",
        """
        (What is|How is|Tell me) the weather in {city}(?| now?| today?)
        (Will it|Is it going to) (rain|snow|be sunny|be warm) in {city}(?| today?| tomorrow?)
        (Give me|Show me|I need|Find) the (weather|weather forecast|forecast) (for|of|in) {city}.
        How (warm|cold|hot) (will it be|is it|does it get) in {city}?
        I am (going|travelling|off) to {city}, (what weather can I expect|do I need an umbrella|how is the weather)?
        {city}: (weather|forecast|weather forecast), please.
        """,
        """
        Do I need an umbrella today in {city}?
        What weather can I expect in {city} tomorrow?
        """,
    ),
    Task(
        "forecast_days",
        {"city": "place", "days": "count"},
        (
            Call(
                "Sky Watch",
                "Daily Forecast",
                "I should look up the forecast for {city} in {days} days.",
                {"city": "{city}", "days": "{days}"},
            ),
        ),
        "I know the forecast.",
        "In {days} days in {city}: {1.sky}, up to {1.high} degrees.",
        """
        (What is|How is|Tell me) the weather in {city} in {days} days(?|, please.)
        (What will|How will) the weather be in {city} {days} days (from now|ahead)?
        (Give me|Show me|I need|Find) the (weather|forecast) (for|of|in) {city} {days} days (ahead|from now).
        In {days} days I (am going|travel|will be off) to {city}, (what weather can I expect|how is the weather there)?
        {days} days from now, (will it rain|will it be warm|how warm is it) in {city}?
        {city}, {days} days ahead: (weather|forecast), please.
        """,
        """
        How warm will it be in {city} {days} days from now?
        """,
    ),
    Task(
        "air",
        {"city": "place"},
        (Call("Sky Watch", "Air Quality", "I should check the air in {city}.", {"city": "{city}"}),),
        "I know how the air is.",
        "The air in {city} is {1.level}, with an index of {1.index}.",
        """
        (How clean|How good|How bad|How healthy) is the air in {city}(?| now?| today?)
        (What is|Tell me|Give me|Show me) the air (quality|quality index|index) (in|for|of) {city}.
        Is the air (good|clean|bad|healthy) in {city}(?| today?)
        Can I (breathe|jog|run) (well|safely) in {city}, (or is the air bad|how is the air)?
        (Check|Look up|Find) the air (quality|pollution) (in|of) {city}.
        I (worry|ask myself) about (air pollution|the air) in {city}.
        """,
        """
        Is there much pollution in the air of {city} today?
        """,
    ),
    Task(
        "sun",
        {"city": "place", "date": "date"},
        (
            Call(
                "Sky Watch",
                "Sun Times",
                "I should look up the sun times in {city} on {date}.",
                {"city": "{city}", "date": "{date}"},
            ),
        ),
        "I know the sun times.",
        "In {city} the sun rises at {1.sunrise} and sets at {1.sunset}.",
        """
        When (does|will) the sun (rise|set|rise and set|go down|come up) in {city} on {date}?
        (What time|When) is (sunrise|sunset|sunrise and sunset) in {city} on {date}?
        (Give me|Show me|Tell me|Find) (sunrise and sunset|the sun times) (for|in) {city} on {date}.
        (Give me|Show me|Tell me|Find) (the sunset|the sunrise) (for|in) {city} on {date}.
        On {date}, when (does the sun set|does the sun rise|is sunset|is sunrise) in {city}?
        How long is (the day|daylight|it light) in {city} on {date}?
        I want to (watch|see) the (sunset|sunrise) in {city} on {date}, when (is it|should I be there)?
        """,
        """
        On {date} I want to see the sun come up in {city}. What time is that?
        """,
    ),
    Task(
        "station",
        {"city": "place"},
        (Call("Rail Planner", "Find Station", "I should find the station of {city}.", {"city": "{city}"}),),
        "I have found the station.",
        "The station of {city} is {1.station_id}, at {1.street}.",
        """
        (What is|Tell me|Give me|Find) the (station|station id|main station|train station) (of|in|for) {city}.
        Where is the (station|main station|train station|railway station) (of|in) {city}?
        (Which|What) (station|train station|railway station) does {city} have?
        I (need|want|look for) the (address|street|id) of the (station|main station) in {city}.
        (Where|At which street) do trains stop in {city}?
        (Look up|Show me) the (railway station|main station|train station) (in|of) {city}.
        """,
        """
        I look for the main railway station in {city}, at which street is it?
        """,
    ),
    Task(
        "departures",
        {"station": "code"},
        (
            Call(
                "Rail Planner",
                "Departures",
                "I should look up the departures from {station}.",
                {"station_id": "{station}"},
            ),
        ),
        "I know the next train.",
        "The next train is {1.train} to {1.to}, leaving at {1.leaves}.",
        """
        (What is|Tell me|Give me|Find|Show me) the next (train|departure) (from|at) station {station}.
        (When|What time) does the next train (leave|depart|go) (from |)station {station}?
        Which train (leaves|departs|goes) next (from|at) station {station}?
        I am (at|waiting at|standing at) station {station}, (what train is next|when does the next train leave)?
        Next (train|departure) from station {station}, please.
        (Show|List|Look up) the departures (of|from|at) station {station}.
        """,
        """
        I am standing at station {station}. Which train departs next?
        """,
    ),
    Task(
        "city_departures",
        {"city": "place"},
        (
            Call("Rail Planner", "Find Station", "First I need the station of {city}.", {"city": "{city}"}),
            Call(
                "Rail Planner",
                "Departures",
                "The station is {1.station_id}, now I look up its departures.",
                {"station_id": "{1.station_id}"},
            ),
        ),
        "I know the next train.",
        "The next train from {city} is {2.train} to {2.to}, leaving at {2.leaves}.",
        """
        (What is|Tell me|Give me|Find|Show me) the next (train|departure) (from|out of) {city}.
        (When|What time) does the next train (leave|depart from) {city}?
        Which train (leaves|departs from) {city} next?
        I am in {city}, (what train is next|when does the next train leave|which train can I take next)?
        (Show|List|Look up) the train departures (of|from|in) {city}.
        I want to (get away from|leave) {city} by train, which one (goes|leaves) next?
        """,
        """
        What time does the next train out of {city} depart?
        """,
    ),
    Task(
        "ticket",
        {"origin": "place", "destination": "place"},
        (
            Call(
                "Rail Planner",
                "Ticket Price",
                "I should ask for the ticket price from {origin} to {destination}.",
                {"origin": "{origin}", "destination": "{destination}"},
            ),
        ),
        "I know the price.",
        "The ticket from {origin} to {destination} costs {1.price} {1.currency}.",
        """
        (How much|What) (is|costs) (a|the) (train ticket|ticket|train) from {origin} to {destination}?
        (What is|Tell me|Give me|Find) the (price|ticket price|train fare) from {origin} to {destination}.
        I (want|need|plan) to (go|travel|ride) by train from {origin} to {destination}, how much is it?
        I (want|need|plan) to (go|travel|ride) by train from {origin} to {destination}, what does it cost?
        (Price|Fare) of a (ticket|train ticket) from {origin} to {destination}, please.
        How (expensive|much) is (going|the train ride|the ride) from {origin} to {destination} by train?
        I am in {origin} and (want|need) a train ticket to {destination}, (how much is it|what does it cost)?
        """,
        """
        What does it cost to ride the train from {origin} to {destination}?
        I need a ticket from {origin} to {destination}. How expensive is it?
        """,
    ),
    Task(
        "hotel",
        {"city": "place"},
        (Call("Hotel Desk", "Find Hotel", "I should find a hotel in {city}.", {"city": "{city}"}),),
        "I have found a hotel.",
        "The best hotel in {city} is {1.hotel}, rated {1.rating}.",
        """
        (Find|Show|Recommend|Give) me (a|a good|the best) hotel in {city}.
        (What is|Which is|Tell me) the best hotel (in|of) {city}?
        (Where|In which hotel) (can|should|could) I (sleep|stay) in {city}?
        I (need|want|look for) a (hotel|good hotel|place to stay|place to sleep) in {city}.
        (Which|What) hotel (do you recommend|is good|is best) in {city}?
        I (am going|travel) to {city}, (find me a hotel|which hotel is good|where should I stay)?
        """,
        """
        I look for a good place to stay in {city}, which hotel do you recommend?
        """,
    ),
    Task(
        "room",
        {"hotel": "code", "nights": "count"},
        (
            Call(
                "Hotel Desk",
                "Room Price",
                "I should ask what {nights} nights cost in {hotel}.",
                {"hotel_id": "{hotel}", "nights": "{nights}"},
            ),
        ),
        "I know the price.",
        "{nights} nights cost {1.total} {1.currency}.",
        """
        (How much|What) (is|are|do I pay for) {nights} nights in hotel {hotel}?
        (What is|Tell me|Give me|Find) the price of {nights} nights (in|at) hotel {hotel}.
        What (do|would) {nights} nights (in|at) hotel {hotel} cost?
        I (want|plan) to (stay|sleep) {nights} nights (in|at) hotel {hotel}, (how much is it|what does it cost)?
        (Price|Room price) for hotel {hotel}, {nights} nights, please.
        How much does hotel {hotel} (cost|charge|ask) for {nights} nights?
        """,
        """
        I plan {nights} nights at hotel {hotel}. What do I pay?
        """,
    ),
    Task(
        "city_room",
        {"city": "place", "nights": "count"},
        (
            Call("Hotel Desk", "Find Hotel", "First I need a hotel in {city}.", {"city": "{city}"}),
            Call(
                "Hotel Desk",
                "Room Price",
                "The hotel is {1.hotel_id}, now I ask what {nights} nights cost.",
                {"hotel_id": "{1.hotel_id}", "nights": "{nights}"},
            ),
        ),
        "I know the price.",
        "{nights} nights in {city} at {1.hotel} cost {2.total} {2.currency}.",
        """
        (How much|What) (is|are|do I pay for) {nights} nights in a hotel in {city}?
        (What is|Tell me|Give me|Find) the price of {nights} nights in (a hotel in |the best hotel of |){city}.
        What (do|would) {nights} nights in {city} cost?
        I (want|plan) to (stay|sleep) {nights} nights in {city}, (how much is a hotel|what does a hotel cost)?
        (Price|Room price) for {nights} nights in {city}, please.
        I (am going|travel) to {city} for {nights} nights, (how much is a hotel|what does a room cost)?
        """,
        """
        What would I pay in {city} for a hotel room for {nights} nights?
        """,
    ),
    Task(
        "hotel_contact",
        {"hotel": "venue"},
        (Call("Hotel Desk", "Hotel Contact", "I should look up how to reach {hotel}.", {"hotel": "{hotel}"}),),
        "I know how to reach the hotel.",
        "You can call {hotel} at {1.phone} or write to {1.email}.",
        """
        (How|Where) can I (reach|contact|call|write to) hotel {hotel}?
        (What is|Tell me|Give me|Find) the (phone number|email|contact|phone number and email) of hotel {hotel}.
        I (need|want) to (call|reach|contact|write to) hotel {hotel}.
        (Which|What) (phone number|email) does hotel {hotel} have?
        (Contact|Phone and email) of hotel {hotel}, please.
        I (lost|need) the (phone number|email|contact) of hotel {hotel}.
        """,
        """
        I want to write to hotel {hotel}, what is their email?
        """,
    ),
    Task(
        "city_hotel_contact",
        {"city": "place"},
        (
            Call("Hotel Desk", "Find Hotel", "First I need a hotel in {city}.", {"city": "{city}"}),
            Call(
                "Hotel Desk",
                "Hotel Contact",
                "The hotel is {1.hotel}, now I look up how to reach it.",
                {"hotel": "{1.hotel}"},
            ),
        ),
        "I know how to reach the hotel.",
        "The best hotel in {city} is {1.hotel}: call {2.phone} or write to {2.email}.",
        """
        (How|Where) can I (reach|contact|call|write to) (a|the best|a good) hotel in {city}?
        (What is|Tell me|Give me|Find) the (phone number|email|contact) of (a|the best|a good) hotel in {city}.
        I (need|want) to (call|reach|contact|write to) (a|the best) hotel in {city}.
        (Which|What) (phone number|email) does the best hotel (in|of) {city} have?
        (Contact|Phone and email) of (a|the best|a good) hotel in {city}, please.
        """,
        """
        Give me the phone number and email of the best hotel in {city}.
        """,
    ),
)
