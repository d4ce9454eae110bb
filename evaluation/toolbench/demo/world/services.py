"""Defines money, parcels, mail and words."""

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
                {"rate": "amount"},
            ),
            Api(
                "Currency Info",
                "Country of a currency.",
                (text("currency", "Currency"),),
                {"country": "place"},
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
                {"price": "amount", "currency": "currency"},
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
        (Convert|Change|Exchange|Turn) {amount} {source} (to|into) {target}(.| for me.)
        (How much|What) (is|are|makes) {amount} {source} in {target}?
        How (many|much) {target} (do I get|are there|would I get|can I buy|is that|is it) for {amount} {source}?
        I have {amount} {source}, (how much is that|what is that|how much do I get) in {target}?
        I have {amount} {source}, how (many|much) {target} (do I get|is that|would I get)?
        (Can you|Could you|Please) (convert|change|exchange|turn) {amount} {source} (to|into) {target}(?|.)
        I <want> (convert|change|exchange|turn) {amount} {source} (to|into) {target}.
        I <want> (convert|change|exchange|turn) {amount} {source} (to|into) {target}, how much do I get?
        I <want> (convert|change|exchange|turn) {amount} {source} (to|into) {target}, how many are that?
        {amount} {source} (to|in|into) {target}, please.
        For {amount} {source}, (what do I get|what would I get|how much would I get) in {target}?
        If I (change|exchange|convert) {amount} {source}, how (many|much) {target} (do I get|are that|is it)?
        <know> how (many|much) {target} {amount} {source} (are|is).
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
        (What|Which) is the (rate|exchange rate|latest rate) from {base} to {target}(?| today?| now?)
        What is the (rate|exchange rate|latest rate) (of|between) {base} (and|to|in) {target}(?| today?| now?)
        <tell> the (rate|exchange rate|latest rate) (of|between|from) {base} (and|to|in) {target}(.| today.)
        How is {base} (traded|exchanged|changed) (to|against|for|into) {target}(?| today?| now?)
        At which rate is {base} (traded|exchanged|changed) (to|against|for|into) {target}(?| today?| now?)
        At what rate is {base} (traded|exchanged|changed) (to|against|for|into) {target}(?| today?| now?)
        (Latest rate|Exchange rate|Rate) (of |from |){base} to {target}, please.
        (Look up|Check) the (rate|exchange rate|latest rate) (from|of) {base} to {target}.
        <know> (the exchange rate|the latest rate|the rate) (from|of) {base} to {target}(.| today.)
        <know> at which (rate|exchange rate) banks change {base} (to|into|for) {target}(.| today.)
        <know> at which (rate|exchange rate) (they exchange|people trade) {base} (to|into|for) {target}(.| today.)
        At (which|what) (rate|exchange rate) do banks change {base} (to|into|for) {target}?
        At (which|what) (rate|exchange rate) (can I exchange|do they trade) {base} (to|into|for) {target}?
        {base} and {target}: (rate|exchange rate|latest rate), please.
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
        "{currency} is the currency of {1.country}.",
        """
        (Which|What) country (uses|has|pays with|pays in) (the currency |){currency}?
        (What|Where) is the currency {currency}(?| from?| used?)
        <tell> the (country|home|name) of the currency {currency}.
        (In which country|In what country|Where) (can I pay with|do they use) the currency {currency}(?| used?)
        (In which country|In what country|Where) (can I use|is) the currency {currency}(?| used?)
        (In which country|In what country|Where) do people (use|have|like) the currency {currency}?
        What does the currency {currency} (stand for|mean)?
        (Name|Country) of the currency {currency}, please.
        (Look up|Check|Find) the currency {currency}.
        (Who|Which people) (pays with|pay with|uses|use) the currency {currency}?
        <know> (which country uses|where people use|where people pay with|what is) the currency {currency}.
        I (found|have|got) a coin of the currency {currency}, where is it from?
        I (found|have|got) a coin of the currency {currency}, (which country is that|where can I pay with it)?
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
        Where is (my|the) (parcel|package) {parcel}(?| now?| today?)
        (Track|Find|Trace|Look up|Check) (my|the) (parcel|package) {parcel}(.| for me.)
        (What|Where) is the (status|place) of (my|the) (parcel|package) {parcel}?
        <tell> the status of (my|the) (parcel|package) {parcel}.
        (When does|When will|Has|Did) (my|the) (parcel|package) {parcel} (arrive|come|arrived)(?| yet?| already?)
        I (wait|am waiting|have waited) for (my|the) (parcel|package) {parcel}, where is it?
        I (wait|am waiting|have waited) for (my|the) (parcel|package) {parcel}, (has it arrived|when does it come)?
        I (ordered|expect|sent) the (parcel|package) {parcel}, (where is it|has it arrived yet|did it come)?
        (Status|Tracking) of (my |the |)(parcel|package) {parcel}, please.
        <know> (where my parcel {parcel} is|where the package {parcel} is).
        <know> (if the parcel {parcel} has come|if my package {parcel} came).
        Has (my|the) (parcel|package) {parcel} (come|arrived)(?| already?| today?)
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
        What is the (price|delivery price) (of|for) (a parcel|a package) of {grams} grams to {destination}?
        <tell> the (price|delivery price) (of|for) (a parcel|a package|my parcel) of {grams} grams to {destination}.
        I <want> send (a parcel|a package) of {grams} grams to {destination}, (how much is it|what does it cost)?
        I <want> send {grams} grams to {destination}, (how much is it|what does it cost|what is the price)?
        (Price|Delivery price) for {grams} grams to {destination}, please.
        (A|My) (parcel|package) to {destination} (weighs|is|has a weight of) {grams} grams, how much is it?
        (A|My) (parcel|package) to {destination} (weighs|is|has a weight of) {grams} grams, what is the price?
        (A|My) (parcel|package) to {destination} weighs {grams} grams, what does (sending it|delivery) cost?
        (A|My) (parcel|package) to {destination} (is|has a weight of) {grams} grams, what does sending it cost?
        (A|My) (parcel|package) to {destination} (is|has a weight of) {grams} grams, what does delivery cost?
        My (parcel|package) (weighs|has) {grams} grams and goes to {destination}, what does it cost?
        My (parcel|package) (weighs|has) {grams} grams and goes to {destination}, what is the delivery price?
        <know> (the delivery price|what it costs to send|the price) for {grams} grams to {destination}.
        For {grams} grams to {destination}, (what is the delivery price|what does sending cost|what does a parcel cost)?
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
        Where (can|could|do|should) I (pick up|collect|fetch|get) (my|a|the) (parcel|package) in {city}?
        <tell> (a|the) pickup point (in|of|for) {city}.
        (Is there|Do you know|Where is) a pickup point (in|for) {city}?
        I (need|look for|want|am looking for) a pickup point (in|for) {city}.
        (Which shop|Where|What shop) (holds|keeps|has) (parcels|packages|my parcel) in {city}?
        (Pickup point|Parcel pickup|Package pickup) (in|of) {city}, please.
        I <want> (pick up|collect|fetch|get) (my|a|the) (parcel|package) in {city}, where is it?
        I <want> (pick up|collect|fetch|get) (my|a|the) (parcel|package) in {city}, (which shop is it|where do I go)?
        <at> {city}, where (can|could|do) I (pick up|fetch|get) (my|a|the) (parcel|package)?
        In {city}, (which shop holds|which shop keeps|where do I fetch|where can I get) my (parcel|package)?
        <know> where (to pick up|to collect|to fetch|I can get) (my|a|the) (parcel|package) in {city}.
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
        (Check|Validate|Verify|Test|Look up) the (email|email address|address) {email}.
        (Can|Could|Should) I (write|send mail|send an email|send a message) to {email}?
        (Who is|What is|Which is) the provider of {email}?
        I got the (email|email address|address) {email}, (is it valid|does it work|is it real|does it exist)?
        I <want> (write|send mail|send a message|send something) to {email}, is the address real?
        I <want> (write|send mail|send a message|send something) to {email}, (does it work|does it exist)?
        <tell> the (status|provider) of (the address |the email |){email}.
        <know> if (the address|the email|the email address) {email} (works|exists|is valid|is real).
        {email}: (does this address exist|is this address valid|does this email work)?
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
        (I got|I had|I missed) a call from (the number |){phone}, who (is it|was it|is that|was that)?
        <tell> the (owner|person|name) (of|behind) the (phone number|number|phone) {phone}.
        (Who|Which person) (called|calls|phoned) (me |us |)from (the number |the phone |){phone}?
        Somebody (called|phoned) me from {phone}, (who was it|which person was that|who is that)?
        The (phone number|number) {phone} called me, (who was it|which person is it|who has it)?
        <know> (who called me from|whose number is|who has the number|which person called from) {phone}.
        To (whom|which person) does the (phone number|number) {phone} belong?
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
        (How old|Since when) is the (domain|site|web site) {domain}(?| online?| registered?)
        Who (owns|registered|has|made) the (domain|site|web site) {domain}?
        (Look up|Check|Find) the (age|owner|domain age) of (the domain |the site |){domain}.
        (When|In which year|Since when) was the (domain|site|web site) {domain} (registered|made|started|online)?
        <tell> the (age|owner) of the (domain|site|web site) {domain}.
        (Since when|How long) does the (domain|site|web site) {domain} exist?
        I (found|saw|visited|like) the (domain|site|web site) {domain}, (who owns it|how old is it|when was it made)?
        I (found|saw|visited|like) the (domain|site|web site) {domain}, who has registered it?
        I (found|saw|visited|like) the (domain|site|web site) {domain}, since when does it exist?
        <know> (who owns|how old is|since when there is) the (domain|site|web site) {domain}.
        (Age|Owner|Domain age) of (the site |the domain |){domain}, please.
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
        What is (a|another) (synonym|word) for '{word}'?
        <tell> (a|another) (synonym|word) (for|of) '{word}'.
        (What|Which) is a synonym of '{word}'?
        (Which|What) (word|other word) (means|is) the same as '{word}'?
        (How else can I say|What else can I say for|What can I say instead of|What else means) '{word}'?
        I (need|want|look for|am looking for) (a synonym|another word|a word that means the same) (for|as) '{word}'.
        (Synonym|A synonym|Another word) (of|for) '{word}', please.
        (Is there|Do you know|Have you got) (a synonym|another word|some other word) (for|of) '{word}'?
        I <want> (say|write) '{word}' with another word, (what can I say|is there a synonym)?
        I <want> (say|write) '{word}' (in another way|with other words), (what can I say|is there a synonym)?
        <know> (a synonym of|another word for|which word means the same as) '{word}'.
        Instead of '{word}', (what can I say|which word can I use|is there another word)?
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
        What is the {language} (word for|translation of) '{word}'?
        <tell> the {language} (word for|translation of) '{word}'.
        (What does|How does) '{word}' (sound|read|look) in {language}?
        I <want> (say|write|translate) '{word}' (in|into) {language}(.|, how do I say that?|, what is the word?)
        I <want> (write|translate|read) '{word}' in {language}, what is the (translation|word)?
        <know> (how to say|how to translate|the word for|the translation of) '{word}' in {language}.
        In {language}, (how do I say|what is the word for|what is the translation of|how do they say) '{word}'?
        The (translation|word) for '{word}' in {language}, please.
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
        (What|Which word|Which other word) rhymes (with|on) '{word}'?
        What is (a|one) (rhyme|word that rhymes) (with|for) '{word}'?
        <tell> (a|one) (rhyme|word that rhymes) (with|for) '{word}'.
        I (need|want|look for|am looking for) a (rhyme|word that rhymes) (with|for) '{word}'.
        (Is there|Do you know|Have you got) a (rhyme|word that rhymes) (with|for) '{word}'?
        I write a (poem|song), (what rhymes with|which word rhymes with|I need a rhyme for|find a rhyme for) '{word}'?
        (Rhyme|A rhyme) (for|with) '{word}', please.
        My (poem|song) ends (with|on) '{word}', (what rhymes with it|which word rhymes|find a rhyme)?
        For (my|a) (song|poem) (I need|find|give me) a rhyme (for|with) '{word}'.
        I <want> (rhyme something|make a rhyme) with '{word}', (which word can I take|what rhymes|which word is there)?
        <know> (what rhymes with|which word rhymes with|a rhyme for) '{word}'.
        """,
        """
        For my poem I need a word that rhymes with '{word}'.
        """,
    ),
)
