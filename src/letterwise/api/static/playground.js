// The playground: asks the service about a word and shows what the model answers.
// Knows the HTTP API; knows nothing about models. Whatever is shown is set as text, never as markup.

const KEY = "letterwise.api-key";
const THEME = "letterwise.theme";
const DARK = matchMedia("(prefers-color-scheme: dark)");
const MODES = {
  direct: "direct: the question alone, answered at once.",
  spell_first: "spell_first: the model spells the word, then answers with its spelling in view.",
  computed: "computed: the model spells, and a program counts in what it spelled.",
};

const byId = (id) => document.getElementById(id);
let service = null; // what /ready says, once it has answered
let running = null; // aborts the question on its way when another is asked

// Asking

class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.error);
    Object.assign(this, { status, details: body?.details, requestId: body?.request_id, retryAfter });
  }
}

async function request(path, body, signal) {
  const headers = { Accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch {
    throw new Problem(0);
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer) throw new Problem(response.status, answer, Number(response.headers.get("Retry-After")));
  return answer;
}

async function requestBatch(path, items, signal) {
  const results = [];
  for (let start = 0; start < items.length; start += service.max_batch_size) {
    const batch = { items: items.slice(start, start + service.max_batch_size) };
    results.push(...(await request(`${path}/batch`, batch, signal)).results);
  }
  return results;
}

async function connect(signal) {
  service = await request("ready", null, signal);
  showService();
}

async function askAll(word, extraLetter, mode, signal) {
  const problems = [];
  const attempt = (promise) => promise.catch((problem) => void problems.push(problem));
  const spelling = service.tasks.includes("spelling");
  const questions = service.tasks.includes("position_count");
  const letters = [...new Set(word + extraLetter)];

  const askModel = async (model) => {
    const common = { verify: true, model };
    const about = { word, ...common, ...(mode && { mode }) };
    const [letterAnswers, counts, positions] = await Promise.all([
      spelling && attempt(request("api/spelling/predict", { text: word, ...common }, signal)),
      questions && attempt(requestBatch("api/position_count/letter_count", letters.map((letter) => ({ ...about, letter })), signal)),
      questions && attempt(requestBatch("api/position_count/letter_position", [...word].map((_, index) => ({ ...about, position: index + 1 })), signal)),
    ]);
    return { model, spelling: letterAnswers, counts, positions };
  };
  const [check, ...models] = await Promise.all([
    spelling && attempt(request("api/spelling/check", { word }, signal)),
    ...service.models.map(askModel),
  ]);
  return { word, check, models, problems };
}

// Showing

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

function percent(share) {
  if (share > 0.99 && share < 1) return ">99%";
  if (share > 0 && share < 0.01) return "<1%";
  return `${Math.round(100 * share)}%`;
}

function confidenceBar(share) {
  const bar = element("span", "bar");
  bar.style.setProperty("--confidence", `${100 * share}%`);
  return bar;
}

function tile({ name, spokenName, value, confidence, correct, expected }) {
  const node = element("li", `tile ${correct ? "right" : "wrong"}`);
  const label = element("span", "name", element("span", "visually-hidden", spokenName), name);
  const shown = value ?? "–";
  node.append(label, element("span", "value", value === null ? element("span", "visually-hidden", "none") : "", String(shown)));
  if (confidence !== undefined) node.append(confidenceBar(confidence), element("span", "confidence", percent(confidence)));
  const spokenMark = element("span", "visually-hidden", correct ? "right " : "wrong, ");
  node.append(element("span", "mark", spokenMark, correct ? "✓" : `✗ ${expected === null ? "extra" : `is ${expected}`}`));
  return node;
}

// Letter by letter against the word, as character_level_accuracy does; what is missing at the end is shown too.
function letterTiles({ word, letters }) {
  const length = Math.max(word.length, letters.length);
  return Array.from({ length }, (_, index) => {
    const { letter = null, confidence } = letters[index] ?? {};
    const expected = word[index] ?? null;
    return tile({ name: `${index + 1}`, spokenName: "Letter ", value: letter, confidence, expected, correct: letter === expected });
  });
}

const countTile = ({ letter, count, ...answer }) => tile({ ...answer, name: letter, spokenName: "Count of ", value: count });
const positionTile = ({ position, letter, ...answer }) => tile({ ...answer, name: `${position}`, spokenName: "Position ", value: letter });

const tally = (answers) => `${answers.filter((answer) => answer.correct).length} of ${answers.length}`;

function modeNote(answers) {
  const [{ mode, spelling }] = answers;
  return `Mode ${mode}${spelling === null ? "" : `, in its own spelling “${spelling}”`}. ${tally(answers)} right.`;
}

function modelSection({ model, spelling, counts, positions }) {
  const section = byId("model-template").content.cloneNode(true).firstElementChild;
  const name = section.querySelector(".model-name");
  name.textContent = service.models.length === 1 ? "The model’s answers" : modelName(model);
  section.setAttribute("aria-label", name.textContent);
  section.dataset.model = model;
  const fill = (part, tiles, note) => {
    const place = section.querySelector(`[data-part=${part}]`);
    place.hidden = !tiles;
    if (!tiles) return;
    place.querySelector(".hint").textContent = note;
    place.querySelector(".tiles").append(...tiles);
  };
  fill("letters", spelling && letterTiles(spelling), spelling && `The whole word ${spelling.correct ? "is right" : "is wrong"}; confidence ${percent(spelling.confidence)}.`);
  fill("counts", counts && counts.map(countTile), counts && modeNote(counts));
  fill("positions", positions && positions.map(positionTile), positions && modeNote(positions));
  return section;
}

const modelName = (model) => (model === "base" ? "Base model" : "Fine-tuned model");

function showTokens(spelling) {
  byId("read").hidden = !spelling;
  if (!spelling) return;
  const { tokens, word } = spelling;
  byId("tokens").replaceChildren(...tokens.map((token) => element("li", "", token.replaceAll(" ", "␣"))));
  byId("tokens-note").textContent = `${tokens.length === 1 ? "One token" : `${tokens.length} tokens`} for ${word.length} letters.`;
}

function showCheck(check) {
  byId("check").hidden = !check;
  if (!check) return;
  byId("verdict").replaceChildren(
    element("span", `mark ${check.is_correct ? "right" : "wrong"}`, check.is_correct ? "✓ Spelled correctly" : "✗ Probably misspelled"),
  );
  byId("suggestion").hidden = check.suggestion === null;
  byId("suggestion").firstElementChild.textContent = check.suggestion;
  byId("verdict-note").textContent = `Confidence ${percent(check.confidence)}.`;
}

function summary({ word, models }) {
  const parts = models.map(({ model, spelling, counts, positions }) => {
    const said = [
      spelling && `spelling ${spelling.correct ? "right" : "wrong"}`,
      counts && `${tally(counts)} counts right`,
      positions && `${tally(positions)} positions right`,
    ].filter(Boolean);
    return `${models.length > 1 ? `${modelName(model)}: ` : ""}${said.join(", ") || "no answer"}.`;
  });
  return models.length > 1 ? [`“${word}”`, ...parts].join("\n") : `“${word}”: ${parts[0]}`;
}

function showTasks() {
  for (const node of document.querySelectorAll("[data-task]")) node.hidden = !service.tasks.includes(node.dataset.task);
}

function showService() {
  showTasks();
  showModeHint();
  byId("service").textContent = `Model ${service.model}, revision ${service.revision}, engine ${service.engine}.`;
}

function showModeHint() {
  const chosen = byId("mode").value;
  const { letter_count: counts, letter_position: positions } = service?.default_modes ?? {};
  const defaults = counts === positions ? MODES[counts] : `${counts} for counts, ${positions} for positions.`;
  byId("mode-hint").textContent = MODES[chosen] ?? (counts ? `Default here is ${defaults}` : "");
}

const SENTENCES = {
  0: "No connection to the service. Check that it is running, then ask again.",
  401: "This service asks for an API key.",
  429: "Too many requests.",
  503: "The model is busy or still starting.",
};

function showProblem(problem) {
  const { status, requestId, retryAfter } = problem;
  const details = problem.details?.replace(/\.$/, "");
  let text = SENTENCES[status];
  if (!(problem instanceof Problem)) {
    console.error(problem);
    text = "The service answered in a way that this page does not understand.";
  }
  if (status === 401 && sessionStorage.getItem(KEY)) text = "The service does not accept this API key.";
  if (status === 400) text = `The service cannot answer this: ${details ?? "it does not say why"}.`;
  text ??= `The service failed with status ${status}${details ? `: ${details}` : ""}.`;
  if (retryAfter) text += ` Try again in ${retryAfter === 1 ? "1 second" : `${retryAfter} seconds`}.`;
  if (status >= 500 && requestId) text += ` Request ${requestId}.`;
  byId("problem").hidden = false;
  byId("problem").textContent = text;
  if (status === 401) {
    sessionStorage.removeItem(KEY);
    byId("key-form").hidden = false;
    byId("key").focus();
  }
}

// Acting

const plain = (input) => input.value.normalize("NFKC").trim().toLowerCase();

function checkFields(word, letter) {
  const wrong = !/^[a-z]{1,32}$/.test(word) ? "word" : !/^[a-z]?$/.test(letter) ? "letter" : null;
  const place = byId("word-problem");
  place.textContent = wrong === "word" ? "Give one word of 1 to 32 letters a to z." : "Give one letter a to z, or none.";
  place.hidden = !wrong;
  for (const id of ["word", "letter"]) byId(id).setAttribute("aria-invalid", String(id === wrong));
  if (wrong) byId(wrong).focus();
  return !wrong;
}

async function ask(newWord) {
  if (newWord) byId("word").value = newWord;
  const word = plain(byId("word"));
  const letter = plain(byId("letter"));
  if (!checkFields(word, letter)) return;

  running?.abort();
  running = new AbortController();
  const { signal } = running;
  byId("problem").hidden = true;
  byId("status").textContent = "Asking the model …";
  byId("results").setAttribute("aria-busy", "true");
  history.replaceState(null, "", `?word=${word}`);
  try {
    if (!service) await connect(signal);
    const answers = await askAll(word, letter, byId("mode").value, signal);
    if (signal.aborted) return;
    const answered = answers.models.some(({ spelling, counts, positions }) => spelling || counts || positions);
    byId("results").hidden = !answered;
    if (answered) {
      showTokens(answers.models.find(({ spelling }) => spelling)?.spelling);
      showCheck(answers.check);
      byId("models").replaceChildren(...answers.models.map(modelSection));
    }
    byId("status").textContent = answered ? summary(answers) : "";
    if (answers.problems.length) throw answers.problems[0];
    byId("key-form").hidden = true;
  } catch (problem) {
    if (signal.aborted) return;
    if (byId("status").textContent.startsWith("Asking")) byId("status").textContent = "";
    showProblem(problem);
  } finally {
    if (!signal.aborted) byId("results").removeAttribute("aria-busy");
  }
}

function showTheme() {
  const theme = document.documentElement.dataset.theme ?? (DARK.matches ? "dark" : "light");
  byId("theme").textContent = theme === "dark" ? "Light theme" : "Dark theme";
  return theme;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(THEME, theme);
  showTheme();
}

// A page opened while the model is still loading becomes ready by itself.
async function start() {
  try {
    if (!service) await connect();
    byId("problem").hidden = true;
    const word = new URLSearchParams(location.search).get("word");
    if (word && !running) ask(word);
  } catch (problem) {
    showProblem(problem);
    if ([0, 503].includes(problem.status)) setTimeout(start, 1000 * (problem.retryAfter || 3));
  }
}

byId("question").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value);
  byId("key").value = "";
  byId("word").value ? ask() : start();
});
for (const button of document.querySelectorAll("[data-word]")) {
  button.addEventListener("click", () => ask(button.dataset.word));
}
byId("suggestion").addEventListener("click", ({ target }) => {
  if (target.matches("button")) ask(target.textContent);
});
byId("mode").addEventListener("change", showModeHint);
byId("theme").addEventListener("click", () => setTheme(showTheme() === "dark" ? "light" : "dark"));
DARK.addEventListener("change", showTheme);

if (localStorage.getItem(THEME)) setTheme(localStorage.getItem(THEME));
showTheme();
start();
