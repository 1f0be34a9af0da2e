// Markdown as models write it, made into nodes. Text only ever becomes text: nothing of an answer is read as HTML.
'use strict';

const markdown = (() => {
  const element = (name, ...children) => {
    const e = document.createElement(name);
    e.append(...children);
    return e;
  };

  // What may stand inside a line, tried in this order at each place.
  const INLINE = [
    [/^(`+)([\s\S]*?[^`])\1(?!`)/, (m) => element('code', m[2].trim())],
    [/^\*\*(?=\S)([\s\S]*?\S)\*\*/, (m) => element('strong', ...inline(m[1]))],
    [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (m) => element('strong', ...inline(m[1]))],
    [/^\*(?=[^\s*])([^*]*?[^\s*])\*/, (m) => element('em', ...inline(m[1]))],
    [/^_(?=[^\s_])([^_]*?[^\s_])_(?!\w)/, (m) => element('em', ...inline(m[1]))],
    [/^~~(?=\S)([\s\S]*?\S)~~/, (m) => element('s', ...inline(m[1]))],
    [/^\[([^\]]*)\]\((https?:\/\/[^\s)]+)\)/, (m) => link(m[2], ...inline(m[1]))],
    [/^https?:\/\/[^\s<>"']*[^\s<>"'.,;:!?)\]]/, (m) => link(m[0], m[0])],
    [/^\\([\\`*_{}[\]()#+\-.!|~])/, (m) => m[1]],
  ];

  function link(to, ...children) {
    const a = element('a', ...children);
    a.href = to;
    a.rel = 'noreferrer noopener';
    a.target = '_blank';
    return a;
  }

  function inline(text) {
    const out = [];
    let plain = '', at = 0;
    while (at < text.length) {
      const rest = text.slice(at), word = at > 0 && /\w/.test(text[at - 1]);
      let found = null;
      if (/[`*_~[h\\]/.test(text[at]) && !(word && /[_h]/.test(text[at]))) {
        for (const [pattern, make] of INLINE) {
          const m = pattern.exec(rest);
          if (m) { found = [m[0].length, make(m)]; break; }
        }
      }
      if (!found) { plain += text[at++]; continue; }
      if (plain) out.push(plain);
      plain = '';
      out.push(found[1]);
      at += found[0];
    }
    if (plain) out.push(plain);
    return out;
  }

  const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+#.-]*)/;
  const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
  const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
  const cells = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((c) => c.trim());

  function fenced(lines, at) {
    const [, fence, language] = FENCE.exec(lines[at]);
    const code = [];
    for (at++; at < lines.length && !lines[at].trim().startsWith(fence); at++) code.push(lines[at]);
    const inner = element('code', code.join('\n'));
    if (language) inner.dataset.language = language;
    return [element('pre', inner), at + 1];
  }

  function list(lines, at) {
    const [, indent, mark] = ITEM.exec(lines[at]);
    const ordered = /\d/.test(mark), out = element(ordered ? 'ol' : 'ul');
    if (ordered) out.start = parseInt(mark, 10);
    while (at < lines.length) {
      const m = ITEM.exec(lines[at]);
      if (!m || m[1].length < indent.length || /\d/.test(m[2]) !== ordered) break;
      const own = [m[3]];
      for (at++; at < lines.length; at++) {
        const next = ITEM.exec(lines[at]);
        if (next ? next[1].length <= indent.length : !/^\s{2,}\S/.test(lines[at])) break;
        own.push(lines[at].slice(Math.min(indent.length + 2, lines[at].search(/\S/))));
      }
      const item = element('li');
      item.append(...inline(own[0]));
      if (own.length > 1) item.append(...blocks(own.slice(1)));
      out.append(item);
      if (lines[at] === '' && at + 1 < lines.length && ITEM.test(lines[at + 1])) at++;
    }
    return [out, at];
  }

  function table(lines, at) {
    const row = (line, name) => element('tr', ...cells(line).map((c) => element(name, ...inline(c))));
    const body = element('tbody'), head = element('thead', row(lines[at], 'th'));
    for (at += 2; at < lines.length && lines[at].includes('|'); at++) body.append(row(lines[at], 'td'));
    return [element('table', head, body), at];
  }

  function quote(lines, at) {
    const own = [];
    for (; at < lines.length && /^ {0,3}>/.test(lines[at]); at++) own.push(lines[at].replace(/^ {0,3}> ?/, ''));
    return [element('blockquote', ...blocks(own)), at];
  }

  const isTable = (lines, at) =>
    lines[at].includes('|') && at + 1 < lines.length && lines[at + 1].includes('-') && /^[\s|:-]+$/.test(lines[at + 1]);

  function begins(lines, at) {
    const line = lines[at];
    return FENCE.test(line) || ITEM.test(line) || RULE.test(line) || /^ {0,3}(#{1,6}\s|>)/.test(line) || isTable(lines, at);
  }

  function blocks(lines, depth = 0) {
    const out = [];
    for (let at = 0; at < lines.length;) {
      const line = lines[at], heading = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/.exec(line);
      let made = null;
      if (!line.trim()) { at++; continue; }
      if (FENCE.test(line)) made = fenced(lines, at);
      else if (heading) made = [element('h' + Math.min(heading[1].length + 2, 6), ...inline(heading[2])), at + 1];
      else if (RULE.test(line)) made = [element('hr'), at + 1];
      else if (/^ {0,3}>/.test(line)) made = quote(lines, at);
      else if (ITEM.test(line)) made = list(lines, at);
      else if (isTable(lines, at)) made = table(lines, at);
      if (!made) {
        const own = [line];
        for (at++; at < lines.length && lines[at].trim() && !begins(lines, at); at++) own.push(lines[at]);
        made = [element('p', ...inline(own.join('\n'))), at];
      }
      out.push(made[0]);
      at = made[1];
    }
    return out;
  }

  return (text) => blocks(text.split(/\r?\n/));
})();
