// What the reader has chosen, in the page's address: kept when it is loaded again, and when it is sent to somebody.

const STATE_KEYS = ["q", "deep", "outcome", "sort", "theme", "lang", "left", "right", "set", "show", "by"];

function readState() {
  const asked = new URLSearchParams(location.search);
  return Object.fromEntries(STATE_KEYS.map((key) => [key, asked.get(key)]).filter(([, value]) => value));
}

function keepState(changes) {
  const state = { ...readState(), ...changes };
  const asked = new URLSearchParams(STATE_KEYS.filter((key) => state[key]).map((key) => [key, state[key]]));
  const text = asked.toString();
  try {
    history.replaceState(history.state, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
  } catch {
    // A browser that allows no such address for a file: the choice holds until the page is left.
  }
}

function readTheme(state) {
  if (state.theme === "dark" || state.theme === "light") document.documentElement.dataset.theme = state.theme;
}

/** The two buttons of every page: `draw` draws it anew in the other language. */
function listenToChoices(draw) {
  byId("theme").addEventListener("click", () => {
    const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    keepState({ theme: document.documentElement.dataset.theme });
  });
  byId("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    keepState({ lang: language });
    draw();
  });
}
