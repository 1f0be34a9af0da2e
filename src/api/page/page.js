// The page at "/": a chat with the served model and a panel of the server's figures. Everything it asks is what any other
// client could ask; addresses are relative, so that it works behind a prefix.
'use strict';

const $ = (id) => document.getElementById(id);
const NUMBERS = ['temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty', 'max_tokens', 'seed'];
const KEPT = [...NUMBERS, 'system'];

let talk = []; // {role, content}
let running = null; // the AbortController of the answer that is on its way

// ---- settings ----

function load(name) {
  try { return localStorage.getItem('octet.' + name); } catch { return null; }
}
function save(name, value) {
  try { localStorage.setItem('octet.' + name, value); } catch { /* a private window */ }
}

function restoreSettings() {
  for (const name of KEPT) {
    $(name).value = load(name) || '';
    $(name).addEventListener('change', () => save(name, $(name).value));
  }
  setTheme(load('theme') || '');
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  save('theme', theme);
}

function nextTheme() {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const now = document.documentElement.dataset.theme || (dark ? 'dark' : 'light');
  setTheme(now === 'dark' ? 'light' : 'dark');
}

function headers() {
  const out = {'Content-Type': 'application/json'};
  if ($('key').value) out.Authorization = 'Bearer ' + $('key').value;
  return out;
}

function requestBody() {
  const system = $('system').value.trim();
  const body = {
    model: $('model').value,
    messages: (system ? [{role: 'system', content: system}] : []).concat(talk),
    stream: true,
    stream_options: {include_usage: true},
  };
  for (const name of NUMBERS) if ($(name).value !== '') body[name] = Number($(name).value);
  return body;
}

// ---- what is shown ----

function tell(text, wrong = false) {
  $('status').textContent = text;
  $('status').classList.toggle('wrong', wrong);
}

function copyButton(text) {
  const b = document.createElement('button');
  b.type = 'button';
  b.textContent = 'Copy';
  b.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text());
    b.textContent = 'Copied';
    setTimeout(() => { b.textContent = 'Copy'; }, 1500);
  });
  return b;
}

function addArticle(role) {
  const article = document.createElement('article');
  const who = document.createElement('h2');
  who.textContent = role === 'user' ? 'You' : $('model').value;
  article.className = role;
  article.append(who);
  $('talk').append(article);
  return article;
}

function showUser(text) {
  const article = addArticle('user');
  article.append(text);
  article.scrollIntoView({block: 'end'});
}

// An answer that grows: its thoughts, its text, and at the end what it took.
function openAnswer() {
  const article = addArticle('assistant');
  const thought = document.createElement('details'), summary = document.createElement('summary');
  const thoughtText = document.createElement('div'), body = document.createElement('div'), foot = document.createElement('footer');
  summary.textContent = 'Reasoning';
  thought.className = 'thought';
  thought.hidden = true;
  thought.append(summary, thoughtText);
  article.append(thought, body, foot);
  article.setAttribute('aria-busy', 'true');
  const answer = {content: '', reasoning: '', drawn: false};

  answer.draw = () => {
    answer.drawn = false;
    const main = $('talk'), atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 80;
    body.replaceChildren(...markdown(answer.content));
    for (const pre of body.querySelectorAll('pre')) pre.append(copyButton(() => pre.firstChild.textContent));
    thought.hidden = !answer.reasoning;
    thoughtText.replaceChildren(...markdown(answer.reasoning));
    if (atEnd) main.scrollTop = main.scrollHeight;
  };
  answer.add = (delta) => {
    answer.content += delta.content || '';
    answer.reasoning += delta.reasoning || '';
    if (answer.drawn) return;
    answer.drawn = true;
    requestAnimationFrame(answer.draw);
  };
  answer.end = (words) => {
    answer.draw();
    article.removeAttribute('aria-busy');
    foot.append(words, copyButton(() => answer.content));
  };
  answer.remove = () => article.remove();
  return answer;
}

// ---- asking ----

// Calls onEvent with each object of a stream of server-sent events.
async function readEvents(response, onEvent) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split('\n');
    held = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data: ') || line === 'data: [DONE]') continue;
      onEvent(JSON.parse(line.slice(6)));
    }
  }
}

async function refusal(response) {
  const text = await response.text();
  if (response.status === 401) {
    showSettings(true);
    $('key').focus();
    return 'This server wants an API key: it goes into the field of that name.';
  }
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `HTTP ${response.status}: ${text.slice(0, 200)}`;
  }
}

function figures(usage, begun, first) {
  const now = performance.now(), parts = [];
  if (!usage) return '';
  parts.push(`${usage.completion_tokens} tokens`);
  if (first && usage.completion_tokens > 1 && now > first)
    parts.push(`${(1000 * (usage.completion_tokens - 1) / (now - first)).toFixed(1)} tokens/s`);
  if (first) parts.push(`first after ${((first - begun) / 1000).toFixed(2)} s`);
  return parts.join(', ');
}

async function ask() {
  const answer = openAnswer(), begun = performance.now();
  let usage = null, first = 0, reason = null;
  running = new AbortController();
  setBusy(true);
  tell('The answer is on its way.');
  try {
    const response = await fetch('v1/chat/completions', {
      method: 'POST', headers: headers(), body: JSON.stringify(requestBody()), signal: running.signal,
    });
    if (!response.ok) throw new Error(await refusal(response));
    await readEvents(response, (event) => {
      if (event.error) throw new Error(event.error.message);
      if (event.usage) usage = event.usage;
      for (const choice of event.choices || []) {
        first = first || performance.now();
        answer.add(choice.delta || {});
        reason = choice.finish_reason || reason;
      }
    });
    tell(reason === 'length' ? 'The answer reached its limit of tokens.' : 'The answer is complete.');
  } catch (error) {
    if (error.name === 'AbortError') tell('Stopped.');
    else tell(error.message, true);
  }
  running = null;
  setBusy(false);
  if (answer.content || answer.reasoning) {
    answer.end(figures(usage, begun, first));
    talk.push({role: 'assistant', content: answer.content});
  } else {
    answer.remove();
    const last = talk.pop(); // so that it can be sent again
    if (last && !$('prompt').value) $('prompt').value = last.content;
    if (last) $('talk').lastElementChild.remove();
  }
}

function send() {
  const text = $('prompt').value.trim();
  if (!text || running) return;
  talk.push({role: 'user', content: text});
  showUser(text);
  $('prompt').value = '';
  ask();
}

function setBusy(busy) {
  $('send').hidden = busy;
  $('stop').hidden = !busy;
  if (!busy) $('prompt').focus();
}

function showSettings(show) {
  $('settings').hidden = !show;
  $('show-settings').setAttribute('aria-expanded', String(show));
}

// ---- live figures ----

const rates = []; // tokens a second, a number a look
let before = null;

function readMetrics(text) {
  const sums = {};
  for (const line of text.split('\n')) {
    const m = /^(vllm:\w+)(?:\{[^}]*\})? (\S+)$/.exec(line);
    if (m) sums[m[1]] = (sums[m[1]] || 0) + Number(m[2]);
  }
  return sums;
}

function showMetrics(now, time) {
  const rate = (name) => before ? Math.max(0, (now[name] - before.sums[name]) / ((time - before.time) / 1000)) : 0;
  const out = rate('vllm:generation_tokens_total'), input = rate('vllm:prompt_tokens_total');
  $('live-out').textContent = `${out.toFixed(out < 10 ? 1 : 0)} tokens/s`;
  $('live-in').textContent = `${input.toFixed(0)} tokens/s`;
  $('live-kv').textContent = `${(100 * now['vllm:kv_cache_usage_perc']).toFixed(1)} %`;
  $('live-running').textContent = now['vllm:num_requests_running'];
  $('live-waiting').textContent = now['vllm:num_requests_waiting'];
  rates.push(out);
  if (rates.length > 120) rates.shift();
  const most = Math.max(1, ...rates);
  $('live-line').firstElementChild.setAttribute(
    'points', rates.map((r, i) => `${120 - rates.length + i},${(23 - 22 * r / most).toFixed(1)}`).join(' '));
  before = {sums: now, time};
}

async function watch() {
  if (!document.hidden) {
    try {
      const response = await fetch('metrics', {headers: headers()});
      if (response.ok) showMetrics(readMetrics(await response.text()), performance.now());
    } catch { before = null; }
  }
  setTimeout(watch, 1000);
}

// ---- beginning ----

async function listModels() {
  try {
    const response = await fetch('v1/models', {headers: headers()});
    if (!response.ok) throw new Error(await refusal(response));
    const {data} = await response.json();
    $('model').replaceChildren(...data.map((card) => new Option(card.id)));
    document.title = `${data[0].id} - octet`;
    tell('');
  } catch (error) {
    tell(error.message, true);
  }
}

$('ask').addEventListener('submit', (event) => { event.preventDefault(); send(); });
$('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && running) running.abort(); });
$('stop').addEventListener('click', () => running && running.abort());
$('new').addEventListener('click', () => {
  if (running) running.abort();
  talk = [];
  $('talk').replaceChildren();
  tell('');
  $('prompt').focus();
});
$('show-settings').addEventListener('click', () => showSettings($('settings').hidden));
$('settings').addEventListener('submit', (event) => event.preventDefault());
$('reset').addEventListener('click', () => {
  for (const name of KEPT) { $(name).value = ''; save(name, ''); }
});
$('key').addEventListener('change', listModels);
$('theme').addEventListener('click', nextTheme);

restoreSettings();
listModels();
watch();
$('prompt').focus();
