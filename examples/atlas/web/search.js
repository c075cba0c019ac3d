// Asks the index that atlas/search.py built: the same words, the same sums, the same order.

const WORD = /[A-Za-z0-9]+/g;
const PART = /[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+/g;

function makeSearch(index) {
  const stopWords = new Set(index.stop);

  function stem(word) {
    if (word.length < 4 || !/^[a-z]+$/.test(word)) return word;
    for (const step of index.steps) {
      for (const [suffix, replacement, keep] of step) {
        if (word.endsWith(suffix) && word.length - suffix.length >= keep) {
          word = word.slice(0, word.length - suffix.length) + replacement;
          break;
        }
      }
    }
    const last = word.at(-1);
    return word.length > 3 && last === word.at(-2) && "bdgmnprt".includes(last) ? word.slice(0, -1) : word;
  }

  function tokens(text) {
    const found = [];
    for (const word of text.match(WORD) ?? []) {
      const parts = word.match(PART) ?? [];
      for (const part of parts.length > 1 ? [word, ...parts] : parts) {
        const lower = part.toLowerCase();
        if (lower.length > 1 && !stopWords.has(lower)) found.push(stem(lower));
      }
    }
    return found;
  }

  function position(word) {
    let low = 0, high = index.terms.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (index.terms[middle] < word) low = middle + 1; else high = middle;
    }
    return low;
  }

  function expand(word, ending) {
    const at = position(word), isTerm = index.terms[at] === word;
    const found = isTerm ? [[at, 1]] : [];
    if (ending.length > 1) {
      for (let n = position(ending); n < index.terms.length && index.terms[n].startsWith(ending) && found.length < index.most; n++) {
        if (index.terms[n] !== word) found.push([n, index.prefix]);
      }
    }
    for (let length = isTerm ? 0 : word.length - 1; length > 3; length--) {
      const shorter = position(word.slice(0, length));
      if (index.terms[shorter] === word.slice(0, length)) return [...found, [shorter, index.prefix]];
    }
    return found;
  }

  function exactness(title, asked, kind) {
    if (title === asked) return 1;
    return title.endsWith("." + asked) ? (kind === "method" ? 0.25 : 0.5) : 0;
  }

  // The best answers, best first: [entry number, score]. `isWanted` is given an entry's kind.
  function search(query, limit, isWanted) {
    const words = [...new Set(tokens(query))];
    const ending = words.length && /[A-Za-z0-9]$/.test(query) ? query.match(WORD).at(-1).toLowerCase() : "";
    const scores = new Map(), matched = new Map();
    for (const word of words) {
      const best = new Map();
      for (const [term, factor] of expand(word, word === words.at(-1) ? ending : "")) {
        const posting = index.postings[term], holders = posting.length / 2;
        const rarity = Math.log(1 + (index.titles.length - holders + 0.5) / (holders + 0.5));
        for (let n = 0, entry = 0; n < posting.length; n += 2) {
          entry += posting[n];
          best.set(entry, Math.max(best.get(entry) ?? 0, rarity * posting[n + 1] / index.scale * factor));
        }
      }
      for (const [entry, value] of best) {
        scores.set(entry, (scores.get(entry) ?? 0) + value);
        matched.set(entry, (matched.get(entry) ?? 0) + 1);
      }
    }
    const asked = query.trim().toLowerCase(), found = [];
    for (const [entry, score] of scores) {
      const kind = index.kind_names[index.kinds[entry]], title = index.titles[entry];
      if (!isWanted(kind)) continue;
      const total = score * matched.get(entry) / words.length + exactness(title.toLowerCase(), asked, kind) * index.exact;
      found.push([entry, total * index.prominence[entry] / 100, title.length]);
    }
    found.sort((a, b) => b[1] - a[1] || a[2] - b[2] || a[0] - b[0]);
    return found.slice(0, limit);
  }

  return { search, tokens };
}
