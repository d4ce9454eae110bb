"""Money, parcels, mail and words."""

from evaluation.toolbench.demo.world.schema import Api, Call, Task, Tool, number, text

TOOLS = (
    Tool(
        "Finance",
        "Coin Exchange",
        "Currencies and their rates.",
        (
            Api(
                "Convert",
                "Convert an amount of money.",
                (number("amount", "Amount"), text("source", "From currency"), text("target", "To currency")),
                {"result": "amount"},
            ),
            Api(
                "Latest Rate",
                "Exchange rate of two currencies.",
                (text("base", "From currency"), text("target", "To currency")),
                {"rate": "number"},
            ),
            Api(
                "Currency Info",
                "Country of a currency.",
                (text("currency", "Currency"),),
                {"name": "place", "country": "place"},
            ),
        ),
    ),
    Tool(
        "Logistics",
        "Parcel Tracker",
        "Parcels, delivery prices and pickup points.",
        (
            Api(
                "Track Parcel",
                "Where a parcel is.",
                (text("parcel", "Parcel number"),),
                {"status": "parcel_status", "place": "place"},
            ),
            Api(
                "Delivery Quote",
                "Price of sending a parcel.",
                (number("grams", "Weight"), text("destination", "City")),
                {"price": "number", "currency": "currency"},
            ),
            Api(
                "Pickup Point",
                "Pickup point of a city.",
                (text("city", "City name"),),
                {"shop": "venue", "street": "street"},
            ),
        ),
    ),
    Tool(
        "Communication",
        "Mail Check",
        "Checks email addresses, phone numbers and domains.",
        (
            Api(
                "Check Email",
                "Whether an email address works.",
                (text("email", "Email address"),),
                {"status": "mail_status", "provider": "venue"},
            ),
            Api(
                "Phone Lookup",
                "Owner of a phone number.",
                (text("phone", "Phone number"),),
                {"owner": "person", "city": "place"},
            ),
            Api(
                "Domain Age",
                "Age of a domain.",
                (text("domain", "Domain"),),
                {"since": "year", "owner": "person"},
            ),
        ),
    ),
    Tool(
        "Language",
        "Word Smith",
        "Words and translations.",
        (
            Api(
                "Synonym",
                "Synonym of a word.",
                (text("word", "Word"),),
                {"synonym": "word"},
            ),
            Api(
                "Translate",
                "Translate a word.",
                (text("word", "Word"), text("language", "Language")),
                {"translation": "word"},
            ),
            Api(
                "Rhyme",
                "Rhyme of a word.",
                (text("word", "Word"),),
                {"rhyme": "word"},
            ),
        ),
    ),
)

TASKS = (
    Task(
        "convert",
        {"amount": "amount", "source": "currency", "target": "currency"},
        (
            Call(
                "Coin Exchange",
                "Convert",
                "I should convert {amount} {source} to {target}.",
                {"amount": "{amount}", "source": "{source}", "target": "{target}"},
            ),
        ),
        "I know the result.",
        "{amount} {source} are {1.result} {target}.",
        """
        (Convert|Change|Exchange|Turn) {amount} {source} (to|into) {target}.
        (How much|What) (is|are) {amount} {source} in {target}?
        How many {target} (do I get|are there|would I get) for {amount} {source}?
        I have {amount} {source}, (how much is that|what is that|how much do I get) in {target}?
        (Can you|Could you) (convert|change|exchange) {amount} {source} (to|into) {target}?
        {amount} {source} (to|in|into) {target}, please.
        """,
        """
        I want to change {amount} {source}, how many {target} is that?
        For {amount} {source}, how much {target} would I get?
        """,
    ),
    Task(
        "rate",
        {"base": "currency", "target": "currency"},
        (
            Call(
                "Coin Exchange",
                "Latest Rate",
                "I should look up the rate from {base} to {target}.",
                {"base": "{base}", "target": "{target}"},
            ),
        ),
        "I know the rate.",
        "The rate from {base} to {target} is {1.rate}.",
        """
        (What is|Tell me|Give me|Show me|Find) the (rate|exchange rate|latest rate) from {base} to {target}.
        (What is|Tell me|Give me) the (rate|exchange rate|latest rate) (of|between) {base} (and|to) {target}.
        (Show me|Find) the (rate|exchange rate|latest rate) (of|between) {base} (and|to) {target}.
        (How|At which rate) is {base} (traded|exchanged) (to|against|for) {target}(?| today?)
        (Latest rate|Exchange rate|Rate) {base} to {target}, please.
        (Look up|Check) the (rate|exchange rate) (from|of) {base} to {target}.
        """,
        """
        At which exchange rate is {base} changed to {target} today?
        """,
    ),
    Task(
        "currency",
        {"currency": "currency"},
        (
            Call(
                "Coin Exchange",
                "Currency Info",
                "I should look up the currency {currency}.",
                {"currency": "{currency}"},
            ),
        ),
        "I know the currency.",
        "{currency} is the {1.name} of {1.country}.",
        """
        (Which|What) country (uses|has|pays with) (the currency |){currency}?
        (What is|Tell me about|Look up|Find) the currency {currency}.
        (In which country|Where) (can I pay with|do people use|do they use|is) the currency {currency}(?| used?)
        What does the currency {currency} (stand for|mean)?
        (Name|Country) of the currency {currency}, please.
        """,
        """
        Where do people pay with the currency {currency}?
        """,
    ),
    Task(
        "parcel",
        {"parcel": "code"},
        (Call("Parcel Tracker", "Track Parcel", "I should track the parcel {parcel}.", {"parcel": "{parcel}"}),),
        "I know where the parcel is.",
        "Your parcel {parcel} is {1.status} in {1.place}.",
        """
        Where is (my|the) (parcel|package) {parcel}(?| now?)
        (Track|Find|Trace|Look up) (my|the) (parcel|package) {parcel}.
        (What is|Tell me|Give me) the status of (my|the) (parcel|package) {parcel}.
        (When does|When will|Has|Did) (my|the) (parcel|package) {parcel} (arrive|come)(?| yet?)
        I (wait|am waiting) for (my|the) (parcel|package) {parcel}, where is it?
        (Status|Tracking) of (parcel|package) {parcel}, please.
        """,
        """
        I am waiting for package {parcel}. Has it come yet?
        """,
    ),
    Task(
        "quote",
        {"grams": "amount", "destination": "place"},
        (
            Call(
                "Parcel Tracker",
                "Delivery Quote",
                "I should ask what sending {grams} grams to {destination} costs.",
                {"grams": "{grams}", "destination": "{destination}"},
            ),
        ),
        "I know the price.",
        "Sending {grams} grams to {destination} costs {1.price} {1.currency}.",
        """
        (How much|What) does (it cost to send|sending) (a parcel|a package) of {grams} grams to {destination}(?| cost?)
        (What is|Tell me) the (price|delivery price) of (a parcel|a package) of {grams} grams to {destination}.
        (Give me|Find) the (price|delivery price) of (a parcel|a package) of {grams} grams to {destination}.
        I (want|need) to send (a parcel|a package) of {grams} grams to {destination}, how much is it?
        I (want|need) to send (a parcel|a package) of {grams} grams to {destination}, what does it cost?
        I (want|need) to send {grams} grams to {destination}, (how much is it|what does it cost)?
        (Price|Delivery price) for {grams} grams to {destination}, please.
        (A|My) (parcel|package) to {destination} weighs {grams} grams, (how much is it|what does sending it cost)?
        """,
        """
        My parcel to {destination} has {grams} grams. What is the delivery price?
        """,
    ),
    Task(
        "pickup",
        {"city": "place"},
        (Call("Parcel Tracker", "Pickup Point", "I should find a pickup point in {city}.", {"city": "{city}"}),),
        "I have found a pickup point.",
        "The pickup point in {city} is {1.shop}, at {1.street}.",
        """
        Where (can|could|do) I (pick up|collect|fetch|get) (my|a|the) (parcel|package) in {city}?
        (Find|Show me|Tell me|Give me) (a|the) pickup point (in|of|for) {city}.
        (Is there|Do you know) a pickup point (in|for) {city}?
        I (need|look for|want) a pickup point in {city}.
        (Which shop|Where) (holds|keeps) (parcels|packages) in {city}?
        (Pickup point|Parcel pickup) in {city}, please.
        """,
        """
        In {city}, where can I collect my package?
        """,
    ),
    Task(
        "email",
        {"email": "email"},
        (Call("Mail Check", "Check Email", "I should check the address {email}.", {"email": "{email}"}),),
        "I know the status.",
        "The address {email} is {1.status}, its provider is {1.provider}.",
        """
        (Is|Check if|Tell me if) {email} (a valid|a working|a real|a good) (email|email address|address)?
        (Does|Will) the (email|email address|address) {email} (work|exist)?
        (Check|Validate|Verify|Test) the (email|email address|address) {email}.
        Can I (write|send mail|send an email) to {email}?
        (Who is|What is|Which is) the provider of {email}?
        I got the (email|email address|address) {email}, (is it valid|does it work|is it real)?
        """,
        """
        I want to send an email to {email}, does this address exist?
        """,
    ),
    Task(
        "phone",
        {"phone": "phone"},
        (Call("Mail Check", "Phone Lookup", "I should look up the number {phone}.", {"phone": "{phone}"}),),
        "I know the owner.",
        "The number {phone} belongs to {1.owner} in {1.city}.",
        """
        (Who|Which person) (owns|has|uses|called from) the (phone number|number|phone) {phone}?
        (Whose|Whose phone) (number is|is|number is this:) {phone}?
        (Look up|Check|Find|Search) the (owner of the |)(phone number|number|phone) {phone}.
        (I got|I had|I missed) a call from {phone}, who (is it|was it|is that|was that)?
        (Tell me|Give me|Find) the owner of the (phone number|number|phone) {phone}.
        Who (called|calls) (me |)from {phone}?
        """,
        """
        Which person was it that called me from the number {phone}?
        """,
    ),
    Task(
        "domain",
        {"domain": "domain"},
        (Call("Mail Check", "Domain Age", "I should look up the domain {domain}.", {"domain": "{domain}"}),),
        "I know the age.",
        "The domain {domain} exists since {1.since} and belongs to {1.owner}.",
        """
        (How old|Since when) is the (domain|site|web site) {domain}(?| online?)
        Who (owns|registered|has) the (domain|site|web site) {domain}?
        (Look up|Check|Find) the (age|owner|domain age) of (the domain |the site |){domain}.
        (When|In which year) was the (domain|site|web site) {domain} (registered|made|started)?
        (Tell me|Give me) the (age|owner) of the (domain|site|web site) {domain}.
        Since when does the (domain|site|web site) {domain} exist?
        """,
        """
        I found the site {domain}, since when is it registered?
        """,
    ),
    Task(
        "synonym",
        {"word": "word"},
        (Call("Word Smith", "Synonym", "I should look up a synonym of '{word}'.", {"word": "{word}"}),),
        "I know a synonym.",
        "A synonym of '{word}' is '{1.synonym}'.",
        """
        (What is|Give me|Find|Tell me) (a|another) (synonym|word) for '{word}'.
        (What is|Give me|Find|Tell me) a synonym of '{word}'.
        (Which|What) word means the same as '{word}'?
        (How else can I say|What else can I say for|What can I say instead of) '{word}'?
        I (need|want|look for) (a synonym|another word) for '{word}'.
        (Synonym|A synonym) of '{word}', please.
        """,
        """
        Is there another word that means the same as '{word}'?
        """,
    ),
    Task(
        "translate",
        {"word": "word", "language": "language"},
        (
            Call(
                "Word Smith",
                "Translate",
                "I should translate '{word}' to {language}.",
                {"word": "{word}", "language": "{language}"},
            ),
        ),
        "I know the translation.",
        "In {language}, '{word}' is '{1.translation}'.",
        """
        (Translate|Please translate|Turn) '{word}' (to|into) {language}.
        (What is|What is the word|How do I say|How do you say) '{word}' in {language}?
        (How do they say|What do they say for|What do people say for) '{word}' in {language}?
        (Can you|Could you) (translate|say) '{word}' (to|into|in) {language}?
        (What is|Give me|Tell me|I need) the {language} (word for|translation of) '{word}'.
        (What does|How does) '{word}' (sound|read|look) in {language}?
        """,
        """
        I need to say '{word}' in {language}, what is the translation?
        """,
    ),
    Task(
        "rhyme",
        {"word": "word"},
        (Call("Word Smith", "Rhyme", "I should look up a rhyme for '{word}'.", {"word": "{word}"}),),
        "I know a rhyme.",
        "'{1.rhyme}' rhymes with '{word}'.",
        """
        (What|Which word) rhymes (with|on) '{word}'?
        (What is|Give me|Find|Tell me) (a|one) (rhyme|word that rhymes) (with|for) '{word}'.
        I (need|want|look for) a (rhyme|word that rhymes) (with|for) '{word}'.
        (Is there|Do you know) a (rhyme|word that rhymes) (with|for) '{word}'?
        I write a (poem|song), what rhymes with '{word}'?
        (Rhyme|A rhyme) for '{word}', please.
        """,
        """
        For my poem I need a word that rhymes with '{word}'.
        """,
    ),
)
