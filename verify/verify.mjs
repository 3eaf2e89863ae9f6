// A verifier of Restante's archives, from docs/formats.md (§) and the specifications that it names,
// on WebCrypto and fetch alone. What fails is a Refused with a `code`. Node 20 can run it, too:
//   node verify.mjs proof --policy POLICY [--json] FILE…
//   node verify.mjs query --policy POLICY --source URL|DIR --topic HEX [--since SIZE] [--json]
export class Refused extends Error { constructor(code, w) { super(`${code}: ${w}`).code = code; } }
const need = (yes, code, what = '') => { if (!yes) throw new Refused(code, what); return yes; };
const ok = (yes) => { if (!yes) throw new Error('not as it must be'); return yes; };
export const as = (code, run) => (...a) => (async () => run(...a))().catch((e) => { // refused so
  throw e instanceof Refused ? e : new Refused(code, e.message); });
// ---- Bytes, of which hashes, CIDs and ids are kept as hex; §1 DAG-CBOR, and checks of fields
const { ceil, floor, log2, max, min } = Math, { subtle } = globalThis.crypto;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const bytesOf = (text) => new TextEncoder().encode(text);
const hex = (data) => Array.from(data, (b) => b.toString(16).padStart(2, '0')).join('');
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (b) => parseInt(b, 16));
const number = (data) => Number(`0x${hex(data) || 0}`); // no safe integer from 2^53 on
const base64 = (s) => ok(btoa(atob(s)) === s) && Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
const decimal = (s) => ok(/^(0|[1-9]\d{0,12})$/.test(s) && s <= 2 ** 40) && Number(s);
const sha256 = async (b) => hex(new Uint8Array(await subtle.digest('SHA-256', new Uint8Array(b))));
const cidOf = async (codec, block) => `01${codec}1220${await sha256(block)}`;
const sum = (items, field) => items.reduce((total, x) => total + x[field], 0);
const ascends = (items) => items.every((x, i) => !i || items[i - 1] < x);
const differ = (items, field) => ascends(items.map((x) => x[field]).sort());
const isBefore = (a, b, i = a.findIndex((x, j) => x !== b[j])) => i >= 0 && a[i] < b[i]; // of lists
const range = (n, item) => ok(n % 1 === 0) && Array.from({ length: n }, (_, i) => item(i));
const pieces = (data, n) => range(data.length / n, (i) => data.subarray(i * n, i * n + n));
const inOrder = (items, run) => items.reduce(async (all, x, i) => { // one after the other
  (await all).push(...await run(x, i)); return all; }, []);
const memo = (run, kept = {}) => (...key) => (kept[key] ??= run(...key));
export function varint(data, at) { // -> [value, where it ends]
  const n = data.slice(at, at + 9).findIndex((b) => b < 128), p = data.slice(at, at + n + 1);
  return [ok(n === 0 || p[n]) && p.reduceRight((v, b) => v * 128 + (b & 127), 0), at + n + 1]; }
export function decode(data, most = 4194304) { let at = 0, items = 0; // a link is a String object
  const take = (n) => ok(n <= data.length - at) && data.subarray(at, at += n);
  const value = (depth) => {
    const [first] = take(1), major = first >> 5, low = first & 31, raws = [];
    ok((items += 1) <= 262144 && low < 28 && (major < 7 || (low > 19 && low < 23)));
    const n = low < 24 ? low : number(take(1 << (low - 24)));
    const many = (item) => ok(depth < 16 && n <= data.length - at) && range(n, item);
    const pair = () => { // in order of the raw keys, which begin with their length
      const start = at, key = text(/^/)(value(16)), size = raws.push(hex(data.subarray(start, at)));
      return ok(size === 1 || raws[size - 2] < raws[size - 1]) && [key, value(depth + 1)]; };
    const link = (raw) => text(/^58250001(55|71)1220/)(raw) && (items += 1) && Object(raw.slice(6));
    ok((low < 24 || n >= [24, 256, 65536, 2 ** 32][low - 24]) && (major !== 6 || n === 42));
    return [() => n, () => -1 - n, () => take(n), () => utf8.decode(take(n)),
      () => many(() => value(depth + 1)), () => Object.fromEntries(many(pair)),
      () => link(hex(take(39))), () => [false, true, null][n - 20]][major](); };
  const result = ok(data.length <= most) && value(0); ok(at === data.length); return result; }
const same = (x) => (v) => ok((v instanceof Uint8Array ? hex(v) : v) === x) && x;
const isIn = (n, lo, hi = 2 ** 53 - 1) => ok(Number.isSafeInteger(n) && n >= lo && n <= hi);
const int = (lo = 0, hi = undefined) => (v) => isIn(v, lo, hi) && v;
const text = (pattern) => (v) => ok(typeof v === 'string' && pattern.test(v)) && v;
const bytes = (lo, hi) => (v) => ok(v instanceof Uint8Array) && isIn(v.length, lo, hi) && v;
const list = (lo, hi, item) => (v) => ok(Array.isArray(v)) && isIn(v.length, lo, hi) && v.map(item);
const row = (fields, names = Object.keys(fields)) => (v) => Object.fromEntries(
  list(names.length, names.length, (x, i) => [names[i], fields[names[i]](x)])(v));
const orNull = (item) => (v) => (v === null ? v : item(v));
const link = (codec) => (v) => ok(v instanceof String && v.startsWith(`01${codec}`)) && `${v}`;
const cid = (v) => ok(hex(bytes(36, 36)(v)).startsWith('01711220')) && hex(v);
const ONE = same(1), U32 = int(0, 2 ** 32 - 1), TIME = orNull(int()), PAGE = bytes(0, 2 ** 20);
const SUM = { count: int(), bytes: int(), sent_min: TIME, sent_max: TIME };
function object(data, fieldsOf, most) { // the map in `data`, which has these fields alone
  const map = decode(data, most), fields = fieldsOf(map), names = Object.keys(fields);
  ok(!Array.isArray(map) && `${Object.keys(map).sort()}` === `${[...names].sort()}`);
  return Object.fromEntries(names.map((name) => [name, fields[name](map[name])])); }
// ---- §2, §8 Keys, policy, checkpoint
async function vkey(word, type) {
  const [, name, id, key] = /^([^+\s\p{Cc}]{1,255})\+([0-9a-f]{8})\+(.+)$/u.exec(word);
  const raw = base64(key), hash = await sha256([...bytesOf(`${name}\n`), ...raw]);
  ok(raw.length === 33 && raw[0] === type && bytesOf(name).length <= 255 && hash.startsWith(id));
  return { name, id, type, hex: hex(raw) }; }
const isGood = as('bad-signature', async (key, note, signature) => {
  const time = key.type === 4 ? signature.slice(0, 8) : [], raw = signature.slice(time.length);
  const head = time.length ? `cosignature/v1\ntime ${BigInt(`0x${hex(time)}`)}\n` : '';
  const k = await subtle.importKey('raw', unhex(key.hex).slice(1), 'Ed25519', false, ['verify']);
  return !(time[0] > 127) && subtle.verify('Ed25519', k, raw, bytesOf(head + note)); });
export const parsePolicy = as('policy', async (source) => {
  const p = { keys: [], witnesses: new Map(), groups: new Map() }, free = new Set(); // ungrouped
  ok(bytesOf(source).length <= 65536 && /^[^\0-\x08\x0b-\x1f\x7f]*\n$/.test(source));
  for (const line of source.split('\n')) {
    const words = line.split(/[ \t]+/).filter(Boolean), [kind = '#', name, second, ...more] = words;
    const is = (form) => form.test(words.join(' ')), good = (yes) => need(yes, 'policy', line);
    const isName = p.witnesses.has(name) || p.groups.has(name) || name === 'none';
    if (kind[0] === '#' && kind !== '#restante') continue; else good(!/\S{1025}/.test(line));
    if (is(/^(log|witness \S+) \S+( \S+)?$/)) {
      p.keys.push(await vkey(kind === 'log' ? name : second, kind === 'log' ? 1 : 4));
      if (kind !== 'log') p.witnesses.set(good(!isName) && free.add(name) && name, p.keys.at(-1));
    } else if (is(/^group \S+ (any|all|[1-9]\d?)( \S+)+$/)) {
      const k = { any: 1, all: more.length }[second] ?? Number(second);
      good(!isName && k <= more.length && more.every((m) => free.delete(m)) && free.add(name));
      p.groups.set(name, { k, members: more });
    } else if (is(/^quorum \S+$/)) p.quorum = good(!p.quorum && isName) && name;
    else if (is(/^#restante set [0-9a-f]{64}$/)) p.set = good(!p.set) && second;
    else good(is(/^#restante contact \S+ url=https?:\/\/\S+$/)); }
  const counts = [p.keys.length - p.witnesses.size, p.witnesses.size, p.groups.size];
  return ok(max(...counts) <= 64 && differ(p.keys, 'hex') && p.quorum) && p; });
export const checkpoint = as('checkpoint', async (policy, data, whole) => { // whole: as §15 has it
  const { groups, witnesses, keys } = policy, isLog = (k) => k.type === 1 && k.name === origin;
  const form = /^((.+)\n(.+)\n(.+)\n)\n((?:— [^+\s\p{Cc}]+ \S+\n){1,64})$/u;
  const [, note, origin, size, root, signed] = form.exec(utf8.decode(bytes(0, 262144)(data)));
  const lines = signed.match(/.+/g).map((line) => {
    const [, name, encoded] = line.split(' '), raw = base64(encoded), id = hex(raw.slice(0, 4));
    return ok(raw[4] >= 0) && [keys.find((k) => k.name === name && k.id === id), raw.slice(4)]; });
  const known = new Set(lines.map(([key]) => key)), isWhole = known.size === lines.length;
  need(!whole || (isWhole && !known.has(undefined)), 'unknown-signature', 'a line too many');
  const result = { origin, size: decimal(size), root: hex(bytes(32, 32)(base64(root))) };
  need(keys.some(isLog), 'origin', `${origin} is no log of the policy`);
  for (const [k, raw] of lines) need(!k || await isGood(k, note, raw), 'bad-signature', k?.name);
  need([...known].some((k) => k && isLog(k)), 'log-signature', "no line is the log's");
  const met = (name) => name === 'none' || (witnesses.has(name) ? known.has(witnesses.get(name))
    : groups.get(name).members.filter(met).length >= groups.get(name).k);
  return need(met(policy.quorum), 'quorum', 'too few cosignatures') && result; });
async function trusted(policy, descriptor, note, whole) {
  need(policy.set, 'no-set'); need(await sha256(descriptor) === policy.set, 'wrong-set');
  const d = await parseDescriptor(descriptor), c = await checkpoint(policy, note, whole);
  return need(c.origin === d.origin, 'origin', c.origin) && { d, ...c }; }
// ---- §3 Descriptor, spans; §4 envelopes; §5 segments, index; §6 entries
const DAYS = int(1, 172800), LEVEL = { windows: int(2, 2880), kind: text(/^(bodies|index)$/) };
const DESCRIPTOR = { version: ONE, network: same('whisper-v6'), genesis_s: int(0, 34359738368),
  origin: text(/^[^+\s\p{Cc}]{1,255}$/u), window_s: int(1, 3600), slack_s: DAYS, ttl_max_s: DAYS,
  validators: list(1, 16, text(/./)), pow_floor_millionths: int(0, 1e12), start: same(null),
  max_envelope_bytes: int(1, 1048560), batch_max_envelopes: int(1, 400000), bucket_bits: int(0, 16),
  batch_max_bytes: int(1, 2 ** 30), levels: list(0, 8, row(LEVEL)), rollup_lag: int(1, 2880),
  f: int(0, 5), rollup_limit_bytes: int(1, 2 ** 50) };
export const parseDescriptor = as('descriptor', async (data) => {
  const d = object(data, () => DESCRIPTOR, 16384), widths = [1, ...d.levels.map((l) => l.windows)];
  const keys = await Promise.all(d.validators.map((v) => vkey(v, 4))), [, top] = widths;
  ok(d.genesis_s % d.window_s === 0 && d.slack_s >= 2 * d.window_s + 20 && keys.length > 3 * d.f
    && keys.every((k) => /^(?!(validators|none)$)[a-z0-9][a-z0-9._-]{0,62}$/i.test(k.name))
    && ascends(keys.map((k) => k.name)) && differ(keys, 'hex') && differ(keys, 'id')
    && d.batch_max_bytes >= d.max_envelope_bytes && (!top || d.rollup_limit_bytes <= 2 ** 33)
    && d.levels.every(({ windows: w, kind }, i) => w > widths[i] && w % widths[i] === 0 && (kind
      === 'index' ? !widths[i + 2] && w <= 64 * widths[i] : w * d.batch_max_envelopes <= 2 ** 26)));
  return { ...d, id: await sha256(data), widths }; });
const maySend = (d, { sent, window }, start = d.genesis_s + window * d.window_s) => // by R0 (§4)
  sent >= start - d.ttl_max_s - d.slack_s && sent <= start + d.window_s + 10;
const depthOf = (d, size) => min(d.bucket_bits, max(0, ceil(log2(size / 65536))));
const bucketOf = (key, depth, n = 2 ** (32 - depth), low = key - (key % n)) => [low, low + n - 1];
const place = (n) => `${n}`.padStart(15, '0').replace(/...(?=.)/g, 'x$&/').replace(/^(x000.)+/, '');
export function spanOf(d, level, n) { // the one of this number
  const windows = d.widths[level], first = n * windows, stop = first + windows;
  return { level, n, windows, first, stop, isIndex: d.levels[level - 1]?.kind === 'index',
    entry: level ? stop - 1 + d.rollup_lag : first,
    path: (part) => `segment/${level}/${place(n)}${part ? `.${part}` : ''}.car` }; }
const childrenOf = (d, s, width = d.widths[s.level - 1]) =>
  range(s.windows / width, (i) => spanOf(d, s.level - 1, s.first / width + i));
const comeDue = (d, w) => d.widths.map((width, l) => [l, (w + 1 - d.rollup_lag) / width - 1])
  .filter(([l, n]) => l && n >= 0 && Number.isInteger(n)).map(([l, n]) => spanOf(d, l, n));
const addsUp = (o) => (o.sent_min === null) === !o.count && (o.sent_max === null) === !o.count
  && o.sent_min <= o.sent_max && (o.count ? o.bytes >= o.count : !o.bytes);
const areAlike = (a, b) => Object.keys(SUM).every((field) => a[field] === b[field]);
export const parseEntry = as('entry', (d, w, data) => {
  const due = comeDue(d, w), rollups = list(due.length, due.length, orNull(cid)), window = same(w);
  const e = object(data, () => ({ version: ONE, window, segment: cid, ...SUM, rollups }), 4096);
  ok(!e.count || [e.sent_min, e.sent_max].every((sent) => maySend(d, { sent, window: w })));
  ok(addsUp(e) && due.every((s, i) => e.rollups[i] || !s.isIndex));
  return { ...e, at: (l) => (l ? e.rollups[due.findIndex((s) => s.level === l)] : e.segment) }; });
export function parseEnvelope(raw) {
  const item = (at) => { // -> [is it a list, where its content begins, where it ends]
    const n = raw[at] - (raw[at] < 192 ? 128 : 192), long = raw.slice(at + 1, at + max(1, n - 54));
    const start = at + (n >= 0) + long.length, size = n < 0 ? 1 : n < 56 ? n : number(long);
    ok(start + size <= raw.length && (n < 56 || (size > 55 && long[0])));
    return ok(raw[at] !== 129 || raw[start] > 127) && [raw[at] >= 192, start, start + size]; };
  let [isList, from, at] = item(0), fields = [];
  for (ok(isList && at === raw.length), at = from; at < raw.length;) {
    [isList, from, at] = item(at); fields.push(ok(!isList) && raw.subarray(from, at)); }
  const [expiry, ttl, topic, , nonce] = ok(fields.length === 5 && fields[2].length === 4) && fields;
  ok([[expiry, 4], [ttl, 4], [nonce, 8]].every(([b, most]) => b[0] !== 0 && b.length <= most));
  return { topic: hex(topic), sent: number(expiry) - number(ttl), raw }; }
const keyOf = async (d, topic) => parseInt((await sha256(unhex(d.id + topic))).slice(0, 8), 16);
const headOf = (size) => (36 + size < 128 ? 37 : 36 + size < 16384 ? 38 : 39); // before a block
const lengthOf = (size) => headOf(size) + size; // of its section
const checked = (s, rows) => rows.map((r, i) => { // which follow one another in a page table of s
  const p = rows[i - 1] ?? r, end = p.offset + lengthOf(p.length);
  const [part, at] = end + lengthOf(r.length) > 2 ** 26 ? [p.part + 1, 0] : [p.part, end];
  ok(!i || (r.part === part && r.offset === at && !isBefore([r.key, r.window], [p.key, p.window])));
  isIn(r.window, s.first, s.stop - 1);
  return isIn(r.records, 1, r.length > 65536 ? 1 : r.length / 3) && r; });
const ROW = row({ key: U32, window: int(), part: int(0, 255), offset: int(0, 2 ** 26),
  length: int(1, 2 ** 20), records: int(1), cid: link(55) }), ROWS = list(1, 1024, ROW);
const BLOCKS = (lo, hi, fields, full) => (v) => list(lo, hi, row({ key: U32, ...fields }))(v).map(
  (b, i, all) => ok(!i || (all[i - 1].key <= b.key && all[i - 1].count === full)) && b);
const COUNTS = { count: int(1, 1024), size: int(1, 2 ** 20) }, LINK = { cid: link(71) };
export const NAMES = (least) => BLOCKS(least, 1024, { size: int(1, 16384), ...LINK });
const PAGE_BLOCKS = BLOCKS(2, 4096, { ...COUNTS, ...LINK }, 1024), KEYS = bytes(0, 65536);
const KEY_BLOCKS = BLOCKS(2, 4096, { count: int(1, 16384), cid: link(55) }, 16384);
export const keysOf = (data, keys = pieces(data, 4).map(number)) => ok(ascends(keys)) && keys;
const ofSpan = (d, s, kind) => ({ version: ONE, kind: same(kind), set: same(d.id),
  level: same(s.level), first_window: same(s.first), windows: same(s.windows) });
export const parseRoot = as('root', (d, s, data) => {
  const o = object(data, (m) => ({ ...ofSpan(d, s, 'segment'), ...SUM, depth: int(),
    ...('pages' in m ? { pages: list(0, 1024, ROW) } : { page_blocks: PAGE_BLOCKS }),
    ...('directory' in m ? { directory: KEYS } : { directory_blocks: KEY_BLOCKS }) }), 262144);
  const rows = checked(s, o.pages ?? []), keys = keysOf(o.directory ?? []), known = new Set(keys);
  const { page_blocks: pageBlocks = [], directory_blocks: keyBlocks = [] } = o;
  ok(addsUp(o) && o.depth === depthOf(d, o.bytes) && !(rows[0] && rows[0].part + rows[0].offset)
    && (o.pages ? sum(rows, 'records') === o.count : sum(pageBlocks, 'count') <= o.count)
    && keys.length + sum(keyBlocks, 'count') <= o.count && ascends(keyBlocks.map((b) => b.key))
    && (!o.directory || [...rows, ...pageBlocks].every((x) => known.has(x.key))));
  return { ...o, rows, keys, pageBlocks, keyBlocks }; });
export const parsePageBlock = as('page-table', (s, data) => checked(s, ROWS(decode(data))));
export const parsePage = as('page', async (d, s, depth, r, next, data) => { // of a row: envelopes
  const found = [], [low, high] = bucketOf(r.key, depth);
  ok(data.length === r.length && await cidOf(55, data) === r.cid);
  for (let at = 0, delta, size; at < data.length;) {
    [delta, at] = varint(data, at); [size, at] = varint(data, at);
    const e = parseEnvelope(ok(size <= data.length - at) && data.subarray(at, at += size));
    const window = ok(delta < s.windows) && s.first + delta, id = await sha256(e.raw);
    const key = await keyOf(d, e.topic), rank = [key, window, e.sent, id];
    ok(key >= low && key <= high && (!found.length || isBefore(found.at(-1).rank, rank)));
    found.push({ id, ...e, window, key, rank }); }
  ok(found.length === r.records && found[0].key === r.key && found[0].window === r.window);
  return ok(!next || !isBefore([next.key, next.window], found.at(-1).rank)) && found; });
const CHILD = row({ cid, ...SUM, depth: int(), region: int(0, 2 ** 30) });
export const parseIndexRoot = as('index', (d, s, data) => {
  const n = childrenOf(d, s).length, all = list(n, n, orNull(CHILD)), base = ofSpan(d, s, 'index');
  const o = object(data, (m) => ({ ...base, children: all, ...('blocks' in m ? { blocks: NAMES(0) }
    : { tables: BLOCKS(2, 4096, { ...COUNTS, offset: int(), ...LINK }, 1024) }) }), 262144);
  const { children, blocks = [], tables = [] } = o, isSome = children.some((c) => c?.count);
  ok(children.every((c) => !c || (addsUp(c) && c.depth === depthOf(d, c.bytes))));
  ok((blocks.length + tables.length > 0) === isSome && !tables[0]?.offset);
  return ok(ascends(tables.map((t) => t.offset))) && { children, blocks, tables }; });
export const parseIndexBlock = as('index', (d, s, made, data) => { // -> keys, their masks, runs
  const n = made.length, many = bytes(0, 16384), children = childrenOf(d, s);
  const maskOf = (b) => BigInt(`0x${hex(b.slice(4))}`);
  const block = row({ keys: many, runs: list(n, n, many) })(decode(data, 16384));
  const rowIn = (b, at = 0, take = (size) => number(b.slice(at, at += size))) => ROW([take(4),
    s.first + take(2), take(1), take(4), take(4), take(2), Object(`01551220${hex(b.slice(17))}`)]);
  const masks = pieces(block.keys, 4 + ceil(n / 8)).map((b) => [number(b.slice(0, 4)), maskOf(b)]);
  const all = made.reduce((mask, c, i) => mask | (c ? 1n << BigInt(i) : 0n), 0n), [[key]] = masks;
  ok(ascends(masks.map(([k]) => k)) && masks.every(([, mask]) => mask && (mask | all) === all));
  return { key, masks, runs: block.runs.map((run, i) => ok(made[i] || !run.length)
    && checked(children[i], pieces(run, 49).map((b) => rowIn(b)))) }; });
// ---- §7 Tree, §11 archive: get(path, start, end) gives its bytes; §12 queries, §15 proofs
const nodeOf = (left, right) => sha256(unhex(`01${left}${right}`));
const split = (n) => 2 ** ceil(log2(n) - 1); // the largest power of two below n
const rootOf = async (hashes, k = split(hashes.length)) => (hashes.length === 1 ? hashes[0]
  : nodeOf(await rootOf(hashes.slice(0, k)), await rootOf(hashes.slice(k))));
export const rootFrom = as('inclusion', async (hash, index, size, proof) => { // of such a proof
  const k = split(size), rest = proof.slice(0, -1), last = proof.at(-1);
  ok(index < size && (size > 1) === (proof.length > 0));
  return size === 1 ? hash : index < k ? nodeOf(await rootFrom(hash, index, k, rest), last)
    : nodeOf(last, await rootFrom(hash, index - k, size - k, rest)); });
const whole = async (get, path, most, data = get(path, 0, most + 1)) =>
  need((await data).length <= most, 'too-large', path) && data;
const missing = (instead) => (e) => { if (e.code !== 'not-found') throw e; return instead(e); };
const part = (get, path, width, most, full = () => whole(get, path, most)) => // of a tile or bundle
  (width === 256 ? full() : whole(get, `${path}.p/${width}`, most).catch(missing(full)));
export const openTree = as('tile', async (get, size, root) => { // -> tile(level, n), its hashes
  const load = memo(async (level, n, width = min(256, floor(size / 256 ** level) - 256 * n)) => {
    const all = pieces(await part(get, `tile/${level}/${place(n)}`, width, 8192), 32);
    return ok([256, width].includes(all.length)) && all.slice(0, width).map(hex); });
  let right = []; for (let level = 0, count = size; count; level += 1, count = floor(count / 256)) {
    if (count % 256) right = [await rootOf([...await load(level, floor(count / 256)), ...right])]; }
  const tile = memo(as('tile', async (level, n) => {
    const hashes = await load(level, n), up = hashes[255] && await tile(level + 1, floor(n / 256));
    return ok(!up || await rootOf(hashes) === up[n % 256]) && hashes; }));
  return ok((right[0] ?? await sha256([])) === root) && tile; });
const plus = (a, b) => (a.count && b.count ? { count: a.count + b.count, bytes: a.bytes + b.bytes,
  sent_min: min(a.sent_min, b.sent_min), sent_max: max(a.sent_max, b.sent_max) } : a.count ? a : b);
export async function openLog(policyText, get) { // what the source's checkpoint commits to
  const policy = await parsePolicy(policyText), raw = await whole(get, 'descriptor', 16384);
  const { d, size, root } = await trusted(policy, raw, await whole(get, 'checkpoint', 262144));
  const tile = await openTree(get, size, root), bundle = memo(as('entries', async (n) => {
    const width = min(256, size - 256 * n), raws = [], hashes = await tile(0, n);
    const data = await part(get, `tile/entries/${place(n)}`, width, 256 * 4098);
    for (let at = 0; raws.length < width; at += 2 + raws.at(-1).length) {
      raws.push(data.subarray(at + 2, at + 2 + number(data.slice(at, at + 2))));
      ok(await sha256([0, ...raws.at(-1)]) === hashes[raws.length - 1]); } return raws; }));
  const entry = memo(async (w) => parseEntry(d, w, (await bundle(floor(w / 256)))[w % 256]));
  const rootCid = async (s) => (s.entry < size ? (await entry(s.entry)).at(s.level) : undefined);
  const total = async (s) =>
    (await Promise.all(range(s.windows, (i) => entry(s.first + i)))).reduce(plus);
  return { d, get, size, root, rootCid, total }; }
const openCar = as('car', async (log, s) => { // -> path, CID, first bytes, root, where that ends
  const path = s.path(), c = await log.rootCid(s), head = await log.get(path, 0, 327680);
  const [size, at] = varint(head, 59), end = at + size, root = head.slice(at + 36, end);
  const isCar = hex(head.slice(0, 59)) === `3aa265726f6f747381d82a582500${c}6776657273696f6e01`;
  ok(isCar && hex(head.slice(at, at + 36)) === c && root.length === size - 36);
  return ok(await cidOf(71, root) === c) && { path, cid: c, head, root, end }; });
async function blockAt({ get }, { path, head }, section, size) { // perhaps from the head
  const at = section + headOf(size), end = at + size;
  const data = end <= head.length ? head.slice(at, end) : await get(path, at, end);
  return need(data.length === size, 'truncated', path) && data; }
const lay = (all, at) => all.reduce((p, b) => (b.at = p) + lengthOf(b.size ??= 4 * b.count), at);
const speaking = as('block', async (log, file, blocks, [low, high], parse) => inOrder( // of keys
  blocks.filter((b, i) => b.key <= high && !(blocks[i + 1]?.key < low)), async (b) => {
    const data = await blockAt(log, file, b.at, b.size), hash = await sha256(data);
    const items = ok(hash === b.cid.slice(8)) && await parse(data, b), [{ key = items[0] }] = items;
    return ok(key === b.key && items.length === (b.count ?? items.length)) && items; }));
export const segmentTable = as('page-table', async (log, s, key) => { // of the bucket, at least
  const file = await openCar(log, s), o = await parseRoot(log.d, s, file.root);
  const region = lay(o.keyBlocks, lay(o.pageBlocks, file.end)), bucket = bucketOf(key, o.depth);
  const rows = await speaking(log, file, o.pageBlocks, bucket, (data) => parsePageBlock(s, data));
  const keys = [...o.keys, ...await speaking(log, file, o.keyBlocks, bucket, (b) => keysOf(b))];
  return { ...o, ...file, region, keys, rows: checked(s, [...o.rows, ...rows]) }; });
export const indexTables = as('index', async (log, s, key) => { // the same of each of its children
  const file = await openCar(log, s), o = await parseIndexRoot(log.d, s, file.root);
  const bucket = bucketOf(key, min(16, ...o.children.map((c) => c?.depth ?? 16))); // the widest
  const start = lay(o.tables, file.end), known = new Map(), rows = o.children.map(() => []);
  const block = async (data) => [await parseIndexBlock(log.d, s, o.children, data)];
  const table = (data, { offset }, all = NAMES(1)(decode(data))) => lay(all, start + offset) && all;
  const names = lay(o.blocks, start) && await speaking(log, file, o.tables, bucket, table);
  for (const b of await speaking(log, file, [...o.blocks, ...names], bucket, block)) {
    for (const [k, mask] of b.masks) ok((known.get(k) ?? mask) === mask && known.set(k, mask));
    b.runs.forEach((run, i) => rows[i].push(...run.filter((r) => r.cid !== rows[i].at(-1)?.cid))); }
  const keys = (i) => [...known.keys()].filter((k) => (known.get(k) >> BigInt(i)) & 1n);
  return childrenOf(log.d, s).map((child, i) => o.children[i]
    && { ...o.children[i], head: [], keys: keys(i), rows: checked(child, rows[i]) }); });
export async function search(log, s, table, topic, key) { // -> the topic's envelopes in this span
  const [low, high] = bucketOf(key, table.depth), isHere = (k) => k >= low && k <= high;
  const rows = table.rows.filter((r) => isHere(r.key)), all = await inOrder(rows, async (r, i) => {
    const file = { path: s.path(r.part), head: r.part ? [] : table.head };
    const data = await blockAt(log, file, (r.part ? 59 : table.region) + r.offset, r.length);
    return parsePage(log.d, s, table.depth, r, rows[i + 1], data); });
  const keys = [...new Set(all.map((e) => e.key))], found = all.filter((e) => e.topic === topic);
  need(`${keys}` === `${table.keys.filter(isHere)}`, 'contradiction', `${s.path()}: its keys`);
  return need(found.every((e) => maySend(log.d, e)), 'contradiction', `${s.path()}: R0`) && found; }
export const query = as('query', async (policyText, get, topic, options = {}) => {
  const log = await openLog(policyText, get), { d, size, root } = log, t = d.levels.length;
  const { since = 0, until: end = size, through = true } = options; // through an index where one is
  ok(text(/^[0-9a-f]{8}$/)(topic) && isIn(since, 0) && isIn(end, since, size));
  const key = await keyOf(d, topic), day = ceil(86400 / d.window_s);
  const visit = async (s, _, of) => { // the largest spans inside; `of`: what an index says of it
    if (s.stop <= since || s.first >= end) return [];
    const c = await log.rootCid(s), isInside = s.first >= since && s.stop <= end;
    const isDay = s.isIndex && c && through, total = isInside && !s.isIndex && await log.total(s);
    const isNone = s.level > 0 && total.bytes > d.rollup_limit_bytes;
    need(!total || c === undefined || isNone === !c, 'contradiction', `is ${s.path()} none?`);
    const read = async () => {
      const table = of === undefined ? await segmentTable(log, s, key) : of;
      need(table?.cid === c && (!total || areAlike(table, total)), 'contradiction', s.path());
      return [[[s.level, s.n], await search(log, s, table, topic, key)]]; };
    const tables = isDay ? await indexTables(log, s, key).catch(missing(() => [])) : [];
    const descend = () => inOrder(childrenOf(d, s), (x, i) => visit(x, i, tables[i]));
    if (s.isIndex || !c) return descend(); // else what may be gone (§11) is read in its roll-up
    return isInside || size > s.entry + day + 1 ? read() : descend().catch(missing(read)); };
  const all = await inOrder(range(ceil(end / d.widths[t]), (n) => spanOf(d, t, n)), visit);
  const found = all.flatMap(([, some]) => some).filter((e) => e.window >= since && e.window < end)
    .sort((a, b) => a.sent - b.sent || (a.id < b.id ? -1 : 1)).map(shown);
  return { topic, windows: [since, end], size, root, found, cover: all.map(([span]) => span) }; });
const shown = ({ key, rank, raw, ...e }) => ({ ...e, envelope: hex(raw) });
const PROOF = { version: ONE, kind: same('proof'), descriptor: bytes(0, 16384), id: bytes(32, 32),
  entry: bytes(0, 4096), root: bytes(0, 262144), page_block: orNull(PAGE), page: PAGE };
const parseProof = as('proof', (data) => {
  const LINES = /^c2sp\.org\/tlog-proof@v1\nextra (.*)\nindex (.*)\n((?:.+\n){0,40})\n/;
  const source = ok(data.length <= 4194304) && new TextDecoder('latin1').decode(data);
  const [head, extra, index, lines] = LINES.exec(source), x = object(base64(extra), () => PROOF);
  const hashes = lines.split('\n').slice(0, -1).map((line) => hex(bytes(32, 32)(base64(line))));
  return { ...x, index: decimal(index), hashes, note: data.slice(head.length) }; });
export const verifyProof = as('proof', async (policyText, data) => { // -> the envelope it proves
  const policy = await parsePolicy(policyText), x = await parseProof(data), { index } = x;
  const { d, size, root } = await trusted(policy, x.descriptor, x.note, true);
  const top = await rootFrom(await sha256([0, ...x.entry]), index, size, x.hashes);
  const entry = need(top === root, 'inclusion') && await parseEntry(d, index, x.entry);
  const c = await cidOf(71, x.root), spans = [spanOf(d, 0, index), ...comeDue(d, index)];
  const s = need(spans.find((each) => entry.at(each.level) === c), 'root', 'not the entry\'s');
  const o = await parseRoot(d, s, x.root), name = x.page_block && await cidOf(71, x.page_block);
  need(s.level || areAlike(o, entry), 'root', 'not as the entry says');
  const block = o.pageBlocks.find((b) => b.cid === name && b.size === x.page_block.length);
  const rows = block ? await parsePageBlock(s, x.page_block) : o.rows, c1 = await cidOf(55, x.page);
  const isNamed = o.pages ? !name : block?.count === rows.length && block.key === rows[0].key;
  const i = need(isNamed, 'page-table', 'its block') && rows.findIndex((r) => r.cid === c1);
  const all = await parsePage(d, s, o.depth, need(rows[i], 'page-table'), rows[i + 1], x.page);
  const e = need(all.find((r) => r.id === hex(x.id)), 'absent', 'the page does not have it');
  return need(maySend(d, e), 'page', 'sent when R0 forbids it') && shown(e); });
export const httpGetter = (base, timeout = 30000) => as('unavailable', async (path, start, end) => {
  const headers = { Range: `bytes=${start}-${end - 1}` }, signal = AbortSignal.timeout(timeout);
  const url = `${base.replace(/\/$/, '')}/${path}`, init = { headers, signal, redirect: 'error' };
  const { status, body } = await fetch(url, init), reader = body?.getReader(), parts = [];
  let left = status === 200 || status === 206 ? end - start : 0, skip = status === 200 ? start : 0;
  for (let got; left && !(got = await reader.read()).done; skip = max(0, skip - got.value.length)) {
    left -= parts[parts.push(got.value.subarray(skip, skip + left)) - 1].length; } // 200: all of it
  reader?.cancel().catch(() => {});
  need(/^2|416/.test(status), { 404: 'not-found', 410: 'withheld' }[status] ?? 'unavailable', path);
  return new Uint8Array(await new Blob(parts).arrayBuffer()); });
const folderGetter = (fs, folder) => as('unavailable', async (path, start, end) => {
  const file = await fs.open(folder + path, fs.constants.O_NONBLOCK).catch((e) => e); // to read
  const size = need(file.code !== 'ENOENT', 'not-found', path) && end - start;
  const got = await file.read(new Uint8Array(size), 0, size, start).finally(() => file.close());
  return got.buffer.subarray(0, got.bytesRead); });
async function main(process) {
  const fs = await import('node:fs/promises'), { parseArgs } = await import('node:util');
  const word = { type: 'string' }, json = { type: 'boolean' }, read = folderGetter(fs, '');
  const { values: o, positionals: [command, ...files] } = parseArgs({ allowPositionals: true,
    options: { policy: word, source: word, topic: word, since: word, json } });
  const names = { proof: files, query: o.source && o.topic ? [o.source] : [] }[command] ?? [];
  need(o.policy && names.length, 'usage', 'see the first lines of this file');
  const print = (x) => console.log(o.json ? JSON.stringify(x) : Object.values(x).join(' '));
  const policy = utf8.decode(await read(o.policy, 0, 65537)), since = Number(o.since ?? 0), jobs = {
    proof: async (f) => print({ file: f, ...await verifyProof(policy, await read(f, 0, 4194305)) }),
    query: async (from) => {
      const get = /^https?:/.test(from) ? httpGetter(from) : folderGetter(fs, `${from}/`);
      const { topic, found, size } = await query(policy, get, o.topic, { since }), to = size - 1;
      const says = `${found.length ? 'complete' : 'absence is proved'} for windows ${since}…${to}`;
      [...found, { says, topic, found: found.length, size, complete_to: to }].forEach(print); } };
  for (const name of names) await jobs[command](name).catch((e) => { process.exitCode = 3;
    print({ says: `refused: ${e.message}`, source: name, refused: e.code }); }); }
if (globalThis.process?.argv?.[1]?.endsWith('verify.mjs')) {
  main(process).catch((e) => { process.exitCode = 2; console.error(e.message); }); }
