"""Books, films and sports."""

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
                {"books": "count", "latest": "title"},
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
                {"film_id": "code", "director": "person", "year": "year"},
            ),
            Api(
                "Film Cast",
                "Cast of a film.",
                (text("film_id", "Film id"),),
                {"lead": "person", "role": "person"},
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
                {"team_id": "code", "league": "place"},
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
_BOOK_PRICE = Call(
    "Book Shelf", "Book Price", "The book is {1.isbn}, now I look up its price.", {"isbn": "{1.isbn}"}
)
_FIND_TEAM = Call("Score Board", "Find Team", "First I need the team {team}.", {"team": "{team}"})

TASKS = (
    Task(
        "book",
        {"title": "title"},
        (Call("Book Shelf", "Find Book", "I should find the book {title}.", {"title": "{title}"}),),
        "I have found the book.",
        "{title} was written by {1.author} in {1.year}.",
        """
        Who (wrote|is the author of|has written) the book {title}?
        (Tell me|Find|Give me) the (author|writer) of the book {title}.
        (When|In which year) was the book {title} (written|published)?
        (Who is the author|Who is the writer|What is the year) of the book {title}?
        (Find|Look up|Search) the book {title}(.| for me.)
        I (read|like|look for) the book {title}, who (wrote it|is the author|is the writer)?
        """,
        """
        I read the book {title}. Who has written it?
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
        (What is|Tell me|Give me|Find) the price of book number {isbn}.
        How (expensive|much) is book number {isbn}?
        I want to buy book number {isbn}, (how much is it|what does it cost|what is the price)?
        (Price|The price) of book number {isbn}, please.
        What (does|would) book number {isbn} cost?
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
        (What is|Tell me|Give me|Find) the price of the book {title}.
        How (expensive|much) is the book {title}?
        I want to buy the book {title}, (how much is it|what does it cost|what is the price)?
        (Price|The price) of the book {title}, please.
        What (does|would) the book {title} cost?
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
        (What is|Tell me|Give me|Find) the price of the book {title} in {target}.
        How (expensive|much) is the book {title} in {target}?
        I want to buy the book {title}, (how much is it|what does it cost|what is the price) in {target}?
        (Price|The price) of the book {title} in {target}, please.
        What (does|would) the book {title} cost in {target}?
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
        (What is|Which is|Tell me|Find) the (latest|newest|last) book (of|by) {author}.
        How many books (has|did) the (author|writer) {author} (written|write)?
        What (has|did) the (author|writer) {author} (written|write)?
        (Show me|Give me|Find|List) the (books|works) (of|by) the (author|writer) {author}.
        I like the (author|writer) {author}, what is the (latest|newest|last) book?
        (Books|Works|Latest book) by {author}, please.
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
        (What is|Which is|Tell me|Find) the (latest|newest|last) book (of|by) the (author|writer) of {title}.
        How many books (has|did) the (author|writer) of {title} (written|write)?
        What else (has|did) the (author|writer) of {title} (written|write)?
        (Show me|Give me|Find|List) the (books|works) (of|by) the (author|writer) of {title}.
        I like {title}, what is the (latest|newest|last) book (of|by) its (author|writer)?
        (Books|Works|Latest book) by the (author|writer) of {title}, please.
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
        "{title} was directed by {1.director} in {1.year}.",
        """
        Who (directed|is the director of|made|has directed) the (film|movie) {title}?
        (Tell me|Find|Give me) the director of the (film|movie) {title}.
        (When|In which year) was the (film|movie) {title} (made|directed|shot)?
        (Who is the director|What is the year) of the (film|movie) {title}?
        (Find|Look up|Search) the (film|movie) {title}(.| for me.)
        I (saw|like|look for) the (film|movie) {title}, who (directed it|is the director|made it)?
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
        "In {film}, {1.lead} plays {1.role}.",
        """
        Who (plays|acts|stars|is the star) in (film|movie) number {film}?
        (What is|Tell me|Give me|Find|Show me) the (cast|star|lead actor) of (film|movie) number {film}.
        Which (actor|actress|star) (plays|is) in (film|movie) number {film}?
        (Cast|Lead actor) of (film|movie) number {film}, please.
        (List|Look up) the (cast|actors) of (film|movie) number {film}.
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
        "In {title}, {2.lead} plays {2.role}.",
        """
        Who (plays|acts|stars|is the star) in the (film|movie) {title}?
        (What is|Tell me|Give me|Find|Show me) the (cast|star|lead actor) of the (film|movie) {title}.
        Which (actor|actress|star) (plays|is) in the (film|movie) {title}?
        (Cast|Lead actor) of the (film|movie) {title}, please.
        (List|Look up) the (cast|actors) of the (film|movie) {title}.
        I (saw|like) the (film|movie) {title}, who (plays in it|is the star|is in the cast)?
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
        (What|Which film|Which movie) (is on|is shown|does it play|runs) (in|at) the cinema {cinema} on {date}?
        (What|Which film|Which movie) does the cinema {cinema} (show|play) on {date}?
        (Tell me|Give me|Show me|Find) the (showtimes|programme) of the cinema {cinema} (on|for) {date}.
        On {date} (we|I) go to the cinema {cinema}, (what is on|what do they show|which film is shown)?
        (Showtimes|Programme) of the cinema {cinema} on {date}, please.
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
        (What is|Tell me|Give me|Find) the league of the team {team}.
        (Find|Look up|Search) the team {team}(.| for me.)
        (What|Which) league (is|does) the team {team} (play |)in?
        (What is|Tell me|Give me) the (id|team id) of the team {team}.
        I like the team {team}, (what is their league|in which league do they play)?
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
        (When|Against whom|On which day) does team number {team} play next?
        (What is|Tell me|Give me|Find|Show me) the next (match|game) of team number {team}.
        (When|What day) is the next (match|game) of team number {team}?
        Who (plays against|is the next opponent of|meets) team number {team}(?| next?)
        Next (match|game|opponent) of team number {team}, please.
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
        (When|Against whom|On which day) does the team {team} play next?
        (What is|Tell me|Give me|Find|Show me) the next (match|game) of the team {team}.
        (When|What day) is the next (match|game) of the team {team}?
        Who (plays against|is the next opponent of|meets) the team {team}(?| next?)
        Next (match|game|opponent) of the team {team}, please.
        I like the team {team}, (when do they play next|who is their next opponent)?
        """,
        """
        On what day can I see the team {team} play their next game?
        """,
    ),
    Task(
        "league",
        {"league": "place"},
        (Call("Score Board", "League Table", "I should look up the league {league}.", {"league": "{league}"}),),
        "I know the leader.",
        "{1.leader} leads {league} with {1.points} points.",
        """
        (Who|Which team) (leads|is first in|is on top of|is leading) the league {league}?
        (What is|Tell me|Give me|Find|Show me) the (leader|table|top|first team) of the league {league}.
        (How many points|Which points) does the leader of the league {league} have?
        (Table|Leader) of the league {league}, please.
        (Look up|Check) (the table|who leads|who is first) in the league {league}.
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
        (What is|Tell me|Give me|Find|Show me) the (leader|table|top|first team) of the league of the team {team}.
        (How many points|Which points) does the leader of the league of the team {team} have?
        (Table|Leader) of the league of the team {team}, please.
        (Who|Which team) (leads|is first in|is on top of) the league (in which|where) the team {team} plays?
        """,
        """
        The team {team} plays in a league. Who is leading it?
        """,
    ),
)
