"""Defines weather, trains and hotels."""

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
                {"sky": "sky", "high": "degrees"},
                (number("days", "Days ahead"),),
            ),
            Api(
                "Air Quality",
                "Air quality now.",
                (text("city", "City name"),),
                {"level": "air", "index": "number"},
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
                {"to": "place", "leaves": "clock"},
            ),
            Api(
                "Ticket Price",
                "Price of a train ticket.",
                (text("origin", "From"), text("destination", "To")),
                {"price": "amount", "currency": "currency"},
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
                {"hotel_id": "code", "hotel": "venue"},
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
        What is the (weather|forecast|weather forecast) (in|for) {city}(?| now?| today?| tomorrow?)
        How is the weather (in|around|near) {city}(?| now?| today?| tomorrow?)
        (Will it|Is it going to|Does it) (rain|snow|be sunny|be warm|be cold) in {city}(?| today?| tomorrow?)
        <tell> the (weather|weather forecast|forecast) (for|of|in) {city}(.| today.| tomorrow.)
        How (warm|cold|hot|wet) (will it be|is it|does it get|will it get) in {city}(?| today?| tomorrow?)
        <trip> to {city}, (what weather can I expect|do I need an umbrella)(?| tomorrow?)
        <trip> to {city}, (how is the weather|will it rain)(?| tomorrow?)
        <at> {city}, (what weather can I expect|do I need an umbrella|how is the weather|will it rain)(?| tomorrow?)
        (Do|Will|Should) I (need|take|bring) (an umbrella|a coat|a warm coat) in {city}(?| today?| tomorrow?)
        {city}: (weather|forecast|weather forecast), please.
        In {city}, (will it rain|is it warm|what is the weather like|how is the weather)(?| today?| tomorrow?)
        <know> (what weather to expect|how warm it is) in {city}(.| today.| tomorrow.)
        <know> (if I need an umbrella|if it will rain) in {city}(.| today.| tomorrow.)
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
        What is the (weather|forecast) in {city} (in {days} days|{days} days from now|{days} days ahead)?
        (What|How) will the weather be in {city} (in {days} days|{days} days from now|{days} days ahead)?
        <tell> the (weather|forecast|weather forecast) (for|of|in) {city} in {days} days.
        <tell> the (weather|forecast|weather forecast) (for|of|in) {city} ({days} days ahead|{days} days from now).
        In {days} days <trip> to {city}, (what weather can I expect|how is the weather there|will it rain)?
        (In {days} days|{days} days from now), (will it rain|will it be warm) in {city}?
        (In {days} days|{days} days from now), (how warm is it|how is the weather) in {city}?
        {city}, {days} days ahead: (weather|forecast), please.
        How (warm|cold|hot|wet) (is it|does it get|will it get) in {city} in {days} days?
        How (warm|cold|hot|wet) (is it|does it get|will it get) in {city} ({days} days ahead|{days} days from now)?
        Will it (rain|snow|be warm|be sunny|be cold) in {city} (in {days} days|{days} days from now)?
        <trip> to {city} in {days} days, (how warm will it be|what is the forecast|do I need an umbrella)?
        <know> how warm it will be in {city} (in {days} days|{days} days from now).
        <know> (how the weather will be|if it will rain) in {city} (in {days} days|{days} days from now).
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
        How (clean|good|bad|healthy|dirty|polluted) is the air (in|of|around) {city}(?| now?| today?)
        What is the air (quality|quality index|index|pollution) (in|for|of) {city}(?| now?| today?)
        <tell> the air (quality|quality index|index|pollution) (in|for|of) {city}(.| today.)
        Is the air (good|clean|bad|healthy|dirty|polluted) in {city}(?| today?| now?)
        Can I (breathe|jog|run) (well|safely|outside) in {city}, (or is the air bad|how is the air|is the air clean)?
        (Check|Measure) the (air|air quality|air pollution|pollution of the air) (in|of) {city}.
        I (worry|ask myself|read|hear) about (air pollution|the air|bad air) in {city}(.|, how is it today?)
        How (much|bad) (is the pollution|air pollution is there|is the air pollution) in {city}(?| today?)
        <at> {city}, (how is the air|is the air clean|is there pollution in the air|can I breathe well)?
        <know> (how clean the air is|how much pollution there is) in {city}(.| today.)
        <know> (if the air is clean|the air quality) in {city}(.| today.)
        Air (quality|pollution|index) (in|of) {city}, please.
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
        On {date}, (when|at what time) (does|will) the sun (rise|set|go down|come up) in {city}?
        (What time|When) is (sunrise|sunset|sunrise and sunset) in {city} on {date}?
        <tell> (sunrise and sunset|the sun times|the sunset|the sunrise) (for|in|of) {city} on {date}.
        How long is (the day|daylight|it light) in {city} on {date}?
        I <want> (watch|see|enjoy) the (sunset|sunrise|sun) in {city} on {date}, (when is it|what time is that)?
        On {date} I <want> (watch|see|enjoy) the (sunset|sunrise) in {city}, (when is it|what time is it)?
        On {date} <trip> to {city}, (when is sunset|when is sunrise|when does the sun rise|when does the sun set)?
        <know> when the sun (rises|sets|comes up|goes down) in {city} on {date}.
        {city}, {date}: (sunrise|sunset|sun times|sunrise and sunset), please.
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
        (What|Which) is the (station|station id|main station|train station|railway station) (of|in|for) {city}?
        <tell> the (station|station id|main station|train station|railway station) (of|in|for) {city}.
        Where is the (station|main station|train station|railway station|main railway station) (of|in) {city}?
        (Which|What) (station|train station|railway station) (does {city} have|is in {city}|is there in {city})?
        I (need|want|look for|am looking for) the (address|street|id) of the station in {city}.
        I (need|want|look for|am looking for) the (address|street|id) of the (main station|train station) in {city}.
        (Where|At which street|At what street) (do trains stop|is the main station|is the station) in {city}?
        <at> {city}, (where is the station|at which street is the station|which station is there)?
        <know> (where the station is|where trains stop|at which street the station is) in {city}.
        I look for the (train station|main station) in {city}, (where is it|which street is it)?
        I (am looking for|cannot find) the (train station|main station) in {city}, (where is it|which street is it)?
        (Station|Main station|Railway station|Train station) (of|in) {city}, please.
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
        "The next train goes to {1.to} at {1.leaves}.",
        """
        What is the next (train|departure) (from|at|out of) station {station}?
        <tell> the next (train|departure) (from|at|out of) station {station}.
        (When|What time) does the next train (leave|depart|go) (from |)station {station}?
        Which train (leaves|departs|goes) (next|first) (from|at) station {station}?
        <near> station {station}, (what train is next|when does the next train leave|which train leaves next)?
        I am (waiting|standing) at station {station}, what train goes next?
        I am (waiting|standing) at station {station}, (which train is next|when is the next departure)?
        Next (train|departure) from station {station}, please.
        <tell> the (departures|train departures) (of|from|at) station {station}.
        I <want> (leave|depart|take the train) from station {station}, (which train is next|when does a train depart)?
        <know> (when the next train departs|which train goes next|which train departs next) (from|at) station {station}.
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
        "The next train from {city} goes to {2.to} at {2.leaves}.",
        """
        What is the next (train|departure) (from|out of) {city}?
        <tell> the next (train|departure) (from|out of) {city}.
        (When|What time|At what time) does the next train (leave|depart from|go from|go out of) {city}?
        Which train (leaves|departs from|goes out of|goes from) {city} (next|first)?
        <at> {city}, (what train is next|when does the next train leave)?
        <at> {city}, (which train can I take next|which train departs next)?
        <tell> the (departures|train departures) (of|from|in) {city}.
        I <want> (get away from|leave|get out of) {city} by train, which one goes next?
        I <want> (get away from|leave|get out of) {city} by train, (when does one depart|what is next)?
        <know> (when the next train leaves|when the next train departs from|which train goes next from) {city}.
        Next (train|departure) (from|out of) {city}, please.
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
        (How much|What) (is|costs|does it cost for) (a|the) (train ticket|ticket) from {origin} to {destination}?
        (How much|What) (is|costs|does it cost for) (a|the) (train|train ride) from {origin} to {destination}?
        What is the (price|ticket price|train fare|fare) from {origin} to {destination}?
        <tell> the (price|ticket price|train fare|fare) from {origin} to {destination}.
        I <want> (go|travel|ride) by train from {origin} to {destination}, (how much is it|what does it cost)?
        I <want> (take|ride) the train from {origin} to {destination}, (how expensive is it|what does the ticket cost)?
        (Price|Fare) of a (ticket|train ticket) from {origin} to {destination}, please.
        How (expensive|much) is (going|the train ride) from {origin} to {destination}(?| by train?)
        How (expensive|much) is (the ride|the train|a ticket) from {origin} to {destination}(?| by train?)
        <at> {origin} and (want|need) a (train ticket|ticket) to {destination}, (how much is it|what does it cost)?
        I (want|need|look for) a (train ticket|ticket) (from {origin} to {destination}), how much is it?
        I (want|need|look for) a (train ticket|ticket) (from {origin} to {destination}), what does it cost?
        <know> what (a ticket|a train ticket|the train) costs from {origin} to {destination}.
        What does (a ticket|a train ticket) (cost from|cost when I go from) {origin} to {destination}?
        What does (the train|the ride) (cost from|cost when I go from) {origin} to {destination}?
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
        "The best hotel in {city} is {1.hotel}.",
        """
        (Find|Show|Recommend|Give|Tell) me (a|a good|the best|a nice) (hotel|place to stay|place to sleep) in {city}.
        (What|Which) is (the best|a good|a nice) (hotel|place to stay|place to sleep) (in|of) {city}?
        (Where|In which hotel) (can|should|could) I (sleep|stay|spend the night) in {city}?
        I (need|want|look for|am looking for) a (hotel|good hotel|nice hotel|place to stay|place to sleep) in {city}.
        (Which|What) hotel (do you recommend|is good|is best|is nice|should I take) in {city}?
        <trip> to {city}, (find me a hotel|which hotel is good|where should I stay|which hotel do you recommend)?
        <at> {city}, (find me a hotel|which hotel is good|where can I sleep|which hotel is the best)?
        <tell> (a|a good|the best|a nice) hotel (in|for) {city}.
        <know> (which hotel is good|where to stay|where to sleep|which hotel is the best) in {city}.
        I (need|want) a (hotel|good place to sleep) in {city}, (which hotel do you recommend|which one is good)?
        (Hotel|A hotel|A good hotel|The best hotel) in {city}, please.
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
        (How much|What) (is|are|do I pay for|must I pay for|costs) {nights} nights (in|at) hotel {hotel}?
        What is the price (of|for) {nights} nights (in|at) hotel {hotel}?
        <tell> the price (of|for) {nights} nights (in|at) hotel {hotel}.
        What (do|would|will) {nights} nights (in|at) hotel {hotel} cost?
        I <want> (stay|sleep|spend) {nights} nights (in|at) hotel {hotel}, how much is it?
        I <want> (stay|sleep|spend) {nights} nights (in|at) hotel {hotel}, (what does it cost|what do I pay)?
        (Price|Room price) for hotel {hotel}, {nights} nights, please.
        How much does hotel {hotel} (cost|charge|ask) for {nights} nights?
        How (expensive|much) (is|are) {nights} nights (in|at) hotel {hotel}?
        <know> what {nights} nights (in|at) hotel {hotel} cost.
        For {nights} nights (in|at) hotel {hotel}, (what do I pay|how much is it|what is the price)?
        I (plan|need|want|book) {nights} nights (in|at) hotel {hotel}, how much is that?
        I (plan|need|want|book) {nights} nights (in|at) hotel {hotel}, (what does it cost|how much do I pay)?
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
        "{nights} nights in {city} cost {2.total} {2.currency}.",
        """
        (How much|What) (is|are|do I pay for|would I pay for|costs) {nights} nights in a hotel in {city}?
        What is the price (of|for) {nights} nights (in|in a hotel in|in the best hotel of|in a hotel room in) {city}?
        <tell> the price (of|for) {nights} nights (in|in a hotel in|in the best hotel of|in a hotel room in) {city}.
        What (do|would|will) {nights} nights in {city} cost?
        I <want> (stay|sleep|spend) {nights} nights in {city}, how much is a hotel?
        I <want> (stay|sleep|spend) {nights} nights in {city}, (what does a hotel cost|what would I pay)?
        (Price|Room price|Hotel price) for {nights} nights in {city}, please.
        <trip> to {city} for {nights} nights, (how much is a hotel|what does a room cost|what would I pay for a hotel)?
        How (expensive|much) (is|would be) a (hotel|hotel room|room) in {city} for {nights} nights?
        For {nights} nights in {city}, (what does a hotel cost|what would I pay for a room|how much is a hotel room)?
        <know> what (a hotel|a room|a hotel room) in {city} costs for {nights} nights.
        In {city}, what (does a hotel cost|does a hotel room cost|do I pay for a room) for {nights} nights?
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
        (How|Where) (can|do|could) I (reach|contact|call|write to) hotel {hotel}?
        What is the (phone number|email|contact|phone number and email|phone) of hotel {hotel}?
        <tell> the (phone number|email|contact|phone number and email|phone) of hotel {hotel}.
        I <want> (call|reach|contact|write to|phone) hotel {hotel}(.|, how do I do that?|, what is the number?)
        I <want> (call|reach|contact|write to|phone) hotel {hotel}, (what is the email|what is their phone number)?
        (Which|What) (phone number|email|phone) does hotel {hotel} have?
        (Contact|Phone|Email|Phone and email) of hotel {hotel}, please.
        I (lost|need|forgot) the (phone number|email|contact) of hotel {hotel}.
        <know> (how to reach|how to contact|the phone number of|the email of) hotel {hotel}.
        Hotel {hotel}: (phone|email|contact|phone number), please.
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
        (How|Where) (can|do|could) I (reach|contact|call|write to) (a|the best|a good) hotel in {city}?
        What is the (phone number|email|contact|phone|email and phone number) of (a|the best|a good) hotel in {city}?
        <tell> the (phone number|email|contact|phone|email and phone number) of (a|the best|a good) hotel in {city}.
        I <want> (call|reach|contact|write to|phone) (a|the best|a good) hotel in {city}(.|, how do I do that?)
        (Which|What) (phone number|email|phone) does (a|the best|a good) hotel (in|of) {city} have?
        (Contact|Phone|Email|Phone and email) of (a|the best|a good) hotel in {city}, please.
        <trip> to {city}, (how do I reach|what is the phone number of|what is the email of) (a|the best|a good) hotel?
        <know> (how to reach|how to contact|the phone number of|the email of) (a|the best|a good) hotel in {city}.
        """,
        """
        Give me the phone number and email of the best hotel in {city}.
        """,
    ),
)
