"""Defines books, films and sports."""

from evaluation.toolbench.demo.world.schema import Api, Call, Task, Tool, text

TOOLS = (
    Tool(
        "Education",
        "Book Shelf",
        "Books, their prices and their authors.",
        (
            Api(
                "Find Book",
                "Find a book by its title.",
                (text("title", "Title"),),
                {"isbn": "code", "author": "person", "year": "year"},
            ),
            Api(
                "Book Price",
                "Price of a book.",
                (text("isbn", "Book number"),),
                {"price": "amount", "currency": "currency"},
            ),
            Api(
                "Author Works",
                "Latest book of an author.",
                (text("author", "Author name"),),
                {"books": "number", "latest": "title"},
            ),
        ),
    ),
    Tool(
        "Movies",
        "Cinema Guide",
        "Films, casts and showtimes.",
        (
            Api(
                "Find Film",
                "Find a film by its title.",
                (text("title", "Title"),),
                {"film_id": "code", "director": "person", "language": "language"},
            ),
            Api(
                "Film Cast",
                "Cast of a film.",
                (text("film_id", "Film id"),),
                {"lead": "person"},
            ),
            Api(
                "Showtimes",
                "What a cinema shows on a date.",
                (text("cinema", "Cinema name"), text("date", "Date")),
                {"film": "title", "starts": "clock"},
            ),
        ),
    ),
    Tool(
        "Sports",
        "Score Board",
        "Teams, matches and leagues.",
        (
            Api(
                "Find Team",
                "Find a team by its name.",
                (text("team", "Team name"),),
                {"team_id": "code", "league": "league"},
            ),
            Api(
                "Next Match",
                "Next match of a team.",
                (text("team_id", "Team id"),),
                {"opponent": "team", "date": "date"},
            ),
            Api(
                "League Table",
                "Leader of a league.",
                (text("league", "League name"),),
                {"leader": "team", "points": "number"},
            ),
        ),
    ),
)

_FIND_BOOK = Call("Book Shelf", "Find Book", "First I need the book {title}.", {"title": "{title}"})
_BOOK_PRICE = Call("Book Shelf", "Book Price", "The book is {1.isbn}, now I look up its price.", {"isbn": "{1.isbn}"})
_FIND_TEAM = Call("Score Board", "Find Team", "First I need the team {team}.", {"team": "{team}"})

TASKS = (
    Task(
        "book",
        {"title": "title"},
        (Call("Book Shelf", "Find Book", "I should find the book {title}.", {"title": "{title}"}),),
        "I have found the book.",
        "{title} was written by {1.author} in {1.year}.",
        """
        Who (wrote|is the author of|has written|is the writer of) the book {title}?
        <tell> the (author|writer|year) of the book {title}.
        (When|In which year|What year) was the book {title} (written|published)?
        (Who is the author|Who is the writer|What is the year) of the book {title}?
        (Find|Look up|Search) the book {title}(.| for me.|, who wrote it?|, who has written it?)
        I (read|like|look for|know|have) the book {title}, who (wrote it|is the author|is the writer|has written it)?
        I (read|like|love) the book {title}, (when was it written|in which year was it published)?
        <know> (who wrote|who has written|the author of|when somebody wrote) the book {title}.
        (Author|Writer|Author and year) of the book {title}, please.
        The book {title}: who (wrote it|is the author|is its writer)?
        By whom (is|was) the book {title}(?| written?)
        """,
        """
        I have read the book {title}. By whom was it written?
        """,
    ),
    Task(
        "book_price",
        {"isbn": "code"},
        (Call("Book Shelf", "Book Price", "I should look up the price of {isbn}.", {"isbn": "{isbn}"}),),
        "I know the price.",
        "The book {isbn} costs {1.price} {1.currency}.",
        """
        (How much|What) (is|costs) the book with (the |)number {isbn}?
        What is the price (of|for) (the book with number|book number) {isbn}?
        <tell> the price (of|for) (the book with number|book number) {isbn}.
        How (expensive|much|cheap) is (the book with number|book number) {isbn}?
        I <want> (buy|order|pay for) book number {isbn}, (how much is it|what does it cost|what is the price)?
        (Price|The price) of book number {isbn}, please.
        What (does|would|will) book number {isbn} cost?
        If I (buy|want|order|want to buy) book number {isbn}, (what does it cost|how much is it|what do I pay)?
        <know> (what book number {isbn} costs|the price of book number {isbn}|how expensive book number {isbn} is).
        Book number {isbn}: (price|how much|how expensive is it), please.
        """,
        """
        What is the price if I want to buy book number {isbn}?
        """,
    ),
    Task(
        "title_price",
        {"title": "title"},
        (_FIND_BOOK, _BOOK_PRICE),
        "I know the price.",
        "{title} costs {2.price} {2.currency}.",
        """
        (How much|What) (is|costs) the book {title}?
        What is the price (of|for) the book {title}?
        <tell> the price (of|for) the book {title}.
        How (expensive|much|cheap) is the book {title}?
        I <want> (buy|order|pay for) the book {title}, (how much is it|what does it cost)?
        I <want> (buy|order|pay for) the book {title}, (what is the price|what would I pay)?
        (Price|The price) of the book {title}, please.
        What (does|would|will) the book {title} cost(?| me?)
        What (do|must|should|would) I pay (for|when I buy|when I order|if I order) the book {title}?
        If I (buy|want|order) the book {title}, (what does it cost|how much is it|what do I pay)?
        <know> (what the book {title} costs|the price of the book {title}|how expensive the book {title} is).
        The book {title}: (price|how much|how expensive is it), please.
        """,
        """
        What would I pay to buy the book {title}?
        """,
    ),
    Task(
        "title_price_in",
        {"title": "title", "target": "currency"},
        (
            _FIND_BOOK,
            _BOOK_PRICE,
            Call(
                "Coin Exchange",
                "Convert",
                "It costs {2.price} {2.currency}, now I convert this to {target}.",
                {"amount": "{2.price}", "source": "{2.currency}", "target": "{target}"},
            ),
        ),
        "I know the price.",
        "{title} costs {3.result} {target}.",
        """
        (How much|What) (is|costs) the book {title} in {target}?
        What is the price (of|for) the book {title} in {target}?
        <tell> the price (of|for) the book {title} in {target}.
        How (expensive|much|cheap) is the book {title} in {target}?
        I <want> (buy|order|pay for) the book {title}, (how much is it|what does it cost|what is the price) in {target}?
        I (have|pay with|want to pay in|pay in) {target}, (how much is|what costs|how expensive is) the book {title}?
        (Price|The price) of the book {title} in {target}, please.
        What (does|would|will) the book {title} cost in {target}?
        What (do|must|should|would) I pay for the book {title} in {target}?
        In {target}, (what is the price of|how expensive is|how much is|what costs|how much costs) the book {title}?
        In {target}, what (does|would|will) the book {title} cost?
        <know> what the book {title} costs in {target}.
        <know> (the price of the book {title}|how expensive the book {title} is) in {target}.
        """,
        """
        In {target}, how much does the book {title} cost?
        """,
    ),
    Task(
        "author",
        {"author": "person"},
        (Call("Book Shelf", "Author Works", "I should look up the works of {author}.", {"author": "{author}"}),),
        "I know the latest book.",
        "{author} wrote {1.books} books, the latest is {1.latest}.",
        """
        (What|Which) is the (latest|newest|last) book (of|by|that was written by) {author}?
        <tell> the (latest|newest|last) book (of|by) {author}.
        How many books (has|did) (the author |the writer |){author} (written|write)?
        What (has|did) (the author |the writer |){author} (written|write)(?| last?)
        <tell> the (books|works|latest works) (of|by) (the author |the writer |){author}.
        I (like|love|read) (the author|the writer) {author}, what is the (latest|newest|last) book?
        I (like|love|read) (the books of|books by) {author}, what is the (latest|newest|last) book?
        I (like|love|read) (the author|the writer) {author}(.| wrote.), which book is the (latest|newest|last)?
        I (like|love|read) (the books of|what) {author}(.| wrote.), which book is the (latest|newest|last)?
        (Books|Works|Latest book|Newest book) (by|of) {author}, please.
        <know> (what {author} writes now|what {author} wrote last).
        <know> (how many books {author} wrote|the newest book of {author}).
        Which (books|works) (did {author} write|are by {author}|has {author} written)?
        """,
        """
        I like what {author} writes. Which is the newest book?
        """,
    ),
    Task(
        "same_author",
        {"title": "title"},
        (
            _FIND_BOOK,
            Call(
                "Book Shelf",
                "Author Works",
                "The author is {1.author}, now I look up the works.",
                {"author": "{1.author}"},
            ),
        ),
        "I know the latest book.",
        "{1.author} wrote {title}, the latest of {2.books} books is {2.latest}.",
        """
        (What|Which) is the (latest|newest|last) book (of|by) the (author|writer) of {title}?
        <tell> the (latest|newest|last) book (of|by) the (author|writer) of {title}.
        How many books (has|did) the (author|writer) of {title} (written|write)?
        What else (has|did) the (author|writer) of {title} (written|write)?
        <tell> the (books|works|other books) (of|by) the (author|writer) of {title}.
        I (like|love|read) {title}, what is the (latest|newest|last) book (of|by) its (author|writer)?
        I (like|love|read) {title}, (what else has its author written|which other books did its writer write)?
        (Books|Works|Other works|Latest book) (by|of) the (author|writer) of {title}, please.
        <know> what else the (author|writer) of {title} (wrote|has written).
        (Which|What) other (books|works) did the author of {title} (write|have)?
        (Which|What) other (books|works) (did the writer of|are by the author of) {title} (write|have)?
        """,
        """
        I like {title}. What else did its author write?
        """,
    ),
    Task(
        "film",
        {"title": "title"},
        (Call("Cinema Guide", "Find Film", "I should find the film {title}.", {"title": "{title}"}),),
        "I have found the film.",
        "{title} was directed by {1.director} in {1.language}.",
        """
        Who (directed|is the director of|made|has directed|has made|shot) the (film|movie) {title}?
        <tell> the (director|director and language) of the (film|movie) {title}.
        (When|In which language|In what language) was the (film|movie) {title} (made|directed|shot)?
        (Who is the director|What is the language) of the (film|movie) {title}?
        (Find|Look up|Search) the (film|movie) {title}(.| for me.|, who directed it?|, who made it?)
        I (saw|like|look for|watched|love) the (film|movie) {title}, who (directed it|is the director)?
        I (saw|like|look for|watched|love) the (film|movie) {title}, who (made it|has made it)?
        I (saw|like|look for|watched|love) the (film|movie) {title}, (in which language is it|what is its language)?
        <know> (who directed|who made|who has directed|the director of) the (film|movie) {title}.
        (Director|Language) of the (film|movie) {title}, please.
        The (film|movie) {title}: who (directed it|is the director|has directed it|has made it)?
        By whom (is|was) the (film|movie) {title}(?| directed?| made?)
        """,
        """
        I saw the movie {title}. Who has directed it?
        """,
    ),
    Task(
        "film_cast",
        {"film": "code"},
        (Call("Cinema Guide", "Film Cast", "I should look up the cast of {film}.", {"film_id": "{film}"}),),
        "I know the cast.",
        "In {film}, {1.lead} plays.",
        """
        Who (plays|acts|stars|is the star|are the actors|are the stars) in (film|movie) number {film}?
        (What|Who) is the (cast|star|lead actor|actor) of (film|movie) number {film}?
        <tell> the (cast|star|stars|lead actor|actors) of (film|movie) number {film}.
        Which (actor|actress|star) (plays|is|stars) in (film|movie) number {film}?
        (Cast|Lead actor|Actors|Stars) of (film|movie) number {film}, please.
        (List|Look up) the (cast|actors|stars) of (film|movie) number {film}.
        I (saw|like|watched|love) (film|movie) number {film}, (who plays in it|who is the star|which actors are in it)?
        <know> (who plays in|who acts in|the cast of|who is the star of|which actors are in) (film|movie) number {film}.
        (Film|Movie) number {film}: (cast|who stars in it|who plays), please.
        """,
        """
        Which actors are the stars of movie number {film}?
        """,
    ),
    Task(
        "title_cast",
        {"title": "title"},
        (
            Call("Cinema Guide", "Find Film", "First I need the film {title}.", {"title": "{title}"}),
            Call(
                "Cinema Guide",
                "Film Cast",
                "The film is {1.film_id}, now I look up its cast.",
                {"film_id": "{1.film_id}"},
            ),
        ),
        "I know the cast.",
        "In {title}, {2.lead} plays.",
        """
        Who (plays|acts|stars|is the star|are the actors|are the stars) in the (film|movie) {title}?
        (What|Who) is the (cast|star|lead actor|actor) of the (film|movie) {title}?
        <tell> the (cast|star|stars|lead actor|actors) of the (film|movie) {title}.
        Which (actor|actress|star) (plays|is|stars) in the (film|movie) {title}?
        (Cast|Lead actor|Actors|Stars) of the (film|movie) {title}, please.
        (List|Look up) the (cast|actors|stars) of the (film|movie) {title}.
        I (saw|like|watched|love) the (film|movie) {title}, (who plays in it|who is the star|who is in the cast)?
        I (saw|like|watched|love) the (film|movie) {title}, which actress stars in it?
        I (saw|like|watched|love) the (film|movie) {title}, (who stars in it|which actor is in it)?
        <know> (who plays in|who acts in|the cast of|who is the star of|which actor stars in) the (film|movie) {title}.
        The (film|movie) {title}: (cast|who stars in it|who plays), please.
        """,
        """
        I like the movie {title}. Which actor stars in it?
        """,
    ),
    Task(
        "showtimes",
        {"cinema": "venue", "date": "date"},
        (
            Call(
                "Cinema Guide",
                "Showtimes",
                "I should look up what {cinema} shows on {date}.",
                {"cinema": "{cinema}", "date": "{date}"},
            ),
        ),
        "I know the programme.",
        "On {date} the cinema {cinema} shows {1.film} at {1.starts}.",
        """
        (What|Which film|Which movie) (is on|is shown|is played) (in|at) the cinema {cinema} on {date}?
        (What|Which film|Which movie) (do they play|do they show|runs) (in|at) the cinema {cinema} on {date}?
        (What|Which film|Which movie) does the cinema {cinema} (show|play) on {date}?
        <tell> the (showtimes|programme|films|movies) of the cinema {cinema} (on|for) {date}.
        On {date} (we|I) go to the cinema {cinema}, (what is on|what do they show)?
        On {date} (we|I) go to the cinema {cinema}, (which film is shown|which movie do they play)?
        On {date} (we|I) <want> (see|watch) a film (in|at) the cinema {cinema}, what is on?
        On {date} (we|I) <want> (see|watch) a film (in|at) the cinema {cinema}, (what do they show|what runs)?
        I <want> (see|watch) a (film|movie) (in|at) the cinema {cinema} on {date}, (what is on|what do they play)?
        (Showtimes|Programme) of the cinema {cinema} on {date}, please.
        <know> (what is on|which film is shown|what they play) (in|at) the cinema {cinema} on {date}.
        On {date}, what (is on|is shown|do they play|do they show) (in|at) the cinema {cinema}?
        Which (film|movie) can I (see|watch) on {date} (in|at) the cinema {cinema}?
        """,
        """
        On {date} I want to see a movie at the cinema {cinema}. What do they play?
        """,
    ),
    Task(
        "team",
        {"team": "team"},
        (Call("Score Board", "Find Team", "I should find the team {team}.", {"team": "{team}"}),),
        "I have found the team.",
        "The team {team} has the id {1.team_id} and plays in {1.league}.",
        """
        (In which league|Where|In what league) does the team {team} play?
        (What|Which) is the (league|id|team id) of the team {team}?
        <tell> the (league|id|team id) of the team {team}.
        (Find|Look up|Search) the team {team}(.| for me.|, in which league is it?)
        (What|Which) league (is|does) the team {team} (play |belong |)in?
        To (what|which) league does the team {team} belong?
        (What|Which) league (has|lists|includes) the team {team}?
        I (like|love|support) the team {team}, what is their league?
        I (like|love|support) the team {team}, (in which league do they play|to which league do they belong)?
        <know> in which league the team {team} plays.
        <know> (the league of the team {team}|to what league the team {team} belongs).
        (League|Team id) of the team {team}, please.
        """,
        """
        What league does the team {team} belong to?
        """,
    ),
    Task(
        "match",
        {"team": "code"},
        (Call("Score Board", "Next Match", "I should look up the next match of {team}.", {"team_id": "{team}"}),),
        "I know the next match.",
        "Team {team} plays {1.opponent} on {1.date}.",
        """
        (When|Against whom|On which day|On what day) does team number {team} play next?
        (What|When|On which day|On what day) is the next (match|game) of team number {team}?
        <tell> the next (match|game|opponent) of team number {team}.
        (Who|Which team) (plays against|is the next opponent of|meets) team number {team}(?| next?)
        Against (whom|which team) (does|will) team number {team} play (next|its next game|its next match)?
        Next (match|game|opponent) of team number {team}, please.
        I (like|love|support) team number {team}, when do they play next?
        I (like|love|support) team number {team}, (who is their next opponent|against whom do they play)?
        <know> (when team number {team} plays|against whom team number {team} plays|who meets team number {team}) next.
        Team number {team}: (next match|next game|next opponent), please.
        """,
        """
        Against whom is the next game of team number {team}?
        """,
    ),
    Task(
        "team_match",
        {"team": "team"},
        (
            _FIND_TEAM,
            Call(
                "Score Board",
                "Next Match",
                "The team is {1.team_id}, now I look up its next match.",
                {"team_id": "{1.team_id}"},
            ),
        ),
        "I know the next match.",
        "The team {team} plays {2.opponent} on {2.date}.",
        """
        (When|Against whom|On which day|On what day) does the team {team} play next?
        (What|When|On which day|On what day) is the next (match|game) of the team {team}?
        <tell> the next (match|game|opponent) of the team {team}.
        (Who|Which team) (plays against|is the next opponent of|meets) the team {team}(?| next?)
        Next (match|game|opponent) of the team {team}, please.
        I (like|love|support) the team {team}, when do they play next?
        I (like|love|support) the team {team}, (who is their next opponent|what day do they play next)?
        I <want> (see|watch) (the next game of|the next match of) the team {team}, when is it?
        I <want> (see|watch) (the next game of|the next match of) the team {team}, (what day is it|on which day is it)?
        (When|On which day) can I (see|watch) the (next game|next match) of the team {team}?
        <know> (when the team {team} plays|against whom the team {team} plays|what day the team {team} plays) next.
        The team {team}: (next match|next game|next opponent), please.
        """,
        """
        On what day can I see the team {team} play their next game?
        """,
    ),
    Task(
        "league",
        {"league": "league"},
        (Call("Score Board", "League Table", "I should look up the league {league}.", {"league": "{league}"}),),
        "I know the leader.",
        "{1.leader} leads {league} with {1.points} points.",
        """
        (Who|Which team) (leads|is first in|is on top of|is leading|is at the top of) the league {league}?
        (What|Who) is (the leader|the table|the top|the first team|first) (of|in) the league {league}?
        <tell> the (leader|table|top|first team) of the league {league}.
        (How many points|Which points) does the (leader|first team|top team) of the league {league} have?
        (Table|Leader|Top team) of the league {league}, please.
        (Look up|Check) (the table|who leads|who is first|which team is on top) in the league {league}.
        <know> (who leads|who is first in|who is on top of|which team is at the top of) the league {league}.
        I (like|love|follow) the league {league}, (who leads|which team is first)?
        I (like|love|follow) the league {league}, (who is at the top|which team leads the table)?
        In the league {league}, (who is first|which team leads|which team is on top|who is at the top of the table)?
        """,
        """
        Which team is at the top of the table in the league {league}?
        """,
    ),
    Task(
        "team_league",
        {"team": "team"},
        (
            _FIND_TEAM,
            Call(
                "Score Board",
                "League Table",
                "The league is {1.league}, now I look up its table.",
                {"league": "{1.league}"},
            ),
        ),
        "I know the leader.",
        "{2.leader} leads {1.league} with {2.points} points.",
        """
        (Who|Which team) (leads|is first in|is on top of|is leading) the league of the team {team}?
        (What|Who) is the (leader|table|top|first team) (of|in) the league of the team {team}?
        <tell> the (leader|table|top|first team) of the league of the team {team}.
        (How many points|Which points) does the (leader|first team) of the league of the team {team} have?
        (Table|Leader|Top team) of the league of the team {team}, please.
        (Who|Which team) (leads|is first in|is on top of|is leading) the league (in which|where) the team {team} plays?
        In the league of the team {team}, (who is first|which team leads|who is leading|which team is on top)?
        I (like|love|support) the team {team}, who leads their league?
        I (like|love|support) the team {team}, (who is first in its league|who is leading the league)?
        The team {team} (is in|belongs to|plays in) (its|a) league, who leads it?
        The team {team} (is in|belongs to|plays in) (its|a) league, (who is first there|which team is on top)?
        <know> (who leads|who is leading|who is first in) the league (of|where I see|in which I find) the team {team}.
        """,
        """
        The team {team} plays in a league. Who is leading it?
        """,
    ),
)
