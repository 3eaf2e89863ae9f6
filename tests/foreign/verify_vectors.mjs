// Runs verify/verify.mjs over tests/vectors/formats.json and prints what came out, as JSON:
//   node verify_vectors.mjs VERIFIER VECTORS [STRIDE [INDEX]]
// Every STRIDEth byte of the proof files is changed; INDEX is the file of the index with tables.
// `failures` are sentences, none if all is well; `counts` say what was run, `codes` how it failed.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [verifier, file, stride = '23', tables] = process.argv.slice(2);
const v = await import(pathToFileURL(verifier));
const vectors = JSON.parse(readFileSync(file, 'utf8'));
const failures = [];
const counts = {};
const codes = {};

const unhex = (text) => new Uint8Array(Buffer.from(text, 'hex'));
const bytesOf = (text) => new Uint8Array(Buffer.from(text));
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const example = (name) => {
  const { kind, value } = vectors.examples[name];
  return kind === 'hex' ? unhex(value) : value;
};
const count = (name) => { counts[name] = (counts[name] ?? 0) + 1; };

async function holds(name, run) {
  count(name);
  try { return await run(); } catch (e) { failures.push(`${name}: ${e.stack}`); }
  return undefined;
}
async function isRefused(name, run) { // -> the code
  count(name);
  try { await run(); } catch (e) {
    if (e instanceof v.Refused && /^[a-z-]+$/.test(e.code)) {
      codes[e.code] = (codes[e.code] ?? 0) + 1;
      return e.code;
    }
    failures.push(`${name}: no error of its own: ${e.stack}`);
    return undefined;
  }
  failures.push(`${name}: passes`);
  return undefined;
}
function same(name, got, wanted) {
  count(name);
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) failures.push(`${name}: ${a}\n is not ${b}`);
}
const folder = (files) => async (path, start, end) => {
  if (!Object.hasOwn(files, path)) throw new v.Refused('not-found', path);
  return files[path].subarray(start, end);
};

// ---- examples that a verifier reads, and what it must refuse of the same formats

const one = await v.parseDescriptor(example('descriptor'));
const two = await v.parseDescriptor(example('levels-descriptor'));
const policy = await v.parsePolicy(example('policy'));
const index = await v.parseIndexRoot(two, v.spanOf(two, 2, 0), example('index-root'));

const pageRow = (data, records = 3) => (
  { key: 0x889ba32d, window: 1, part: 0, offset: 0, length: data.length, records, cid: `01551220${sha256(data)}` });
const batch = v.spanOf(one, 0, 1);
async function readSegment(data) { // all of it, whatever bucket
  const cid = `01711220${sha256(example('root'))}`;
  const log = { d: one, get: folder({ 'segment/0/001.car': data }), rootCid: async () => cid };
  const table = await v.segmentTable(log, batch, 0x889ba32d);
  return v.search(log, batch, table, '00000001', 0x889ba32d);
}
const noteOf = (text) => bytesOf(`${Buffer.from(text)}\n— somebody AAAAAAA=\n`);
const formats = { // format: [how it is read, examples that are good]
  dagcbor: [(b) => v.as('dagcbor', v.decode)(b), ['dagcbor']],
  varint: [(b) => v.as('varint', v.varint)(b, 0), []],
  descriptor: [v.parseDescriptor, ['descriptor', 'levels-descriptor']],
  page: [(b) => v.parsePage(one, batch, 0, pageRow(b), null, b), ['page']],
  root: [(b) => v.parseRoot(one, batch, b), ['root']],
  'page-table-block': [(b) => v.parsePageBlock(batch, b), ['page-table-block']],
  'directory-block': [(b) => v.as('directory', v.keysOf)(b), ['directory-block']],
  segment: [readSegment, ['car']],
  entry: [(b) => v.parseEntry(one, 1, b), ['entry']],
  'levels-entry': [
    (b) => v.parseEntry(two, v.decode(b).window, b), ['levels-entry-2', 'levels-entry-4', 'levels-entry-6']],
  checkpoint: [(b) => v.checkpoint(policy, b), []],
  policy: [(b) => v.parsePolicy(Buffer.from(b).toString()), []],
  'rollup-root': [(b) => v.parseRoot(two, v.spanOf(two, 1, 0), b), ['rollup-root']],
  'index-root': [(b) => v.parseIndexRoot(two, v.spanOf(two, 2, 0), b), ['index-root']],
  'index-table': [v.as('index', (b) => v.NAMES(1)(v.decode(b))), ['index-table']],
  'index-block': [(b) => v.parseIndexBlock(two, v.spanOf(two, 2, 0), index.children, b), ['index-block']],
  envelope: [(b) => v.as('envelope', v.parseEnvelope)(b), ['envelope-1', 'envelope-2', 'envelope-3']],
};
for (const [format, [read, good]] of Object.entries(formats)) {
  for (const name of good) await holds(`good ${format}`, () => read(example(name)));
}
await holds('good root', () => v.parseRoot(one, v.spanOf(one, 0, 0), example('quiet-root')));
await holds('good entry', () => v.parseEntry(one, 0, example('quiet-entry')));
await holds('good checkpoint', () => v.checkpoint(policy, bytesOf(example('checkpoint'))));
await holds('good policy', () => v.parsePolicy(example('levels-policy')));
for (const line of example('varint').trim().split('\n')) {
  const [value, data] = line.split(' ');
  await holds('good varint', () => same('varint', v.varint(unhex(data), 0)[0], Number(value)));
}

// What only other roles read; of a whole file, what a reader in ranges does not see; R0 beyond sent times.
const OTHERS = ['cid-text', 'car', 'contact', 'watch', 'proposal', 'certificate', 'answer', 'pool-page',
  'bodies', 'cosignatures'];
const JUDGED = ['ttl-zero', 'ttl-over-cap', 'expiry-below-ttl', 'low-pow', 'too-early: in window 20'];
for (const { format, why, hex } of vectors.refused) {
  if (OTHERS.includes(format) || (format === 'envelope' && JUDGED.includes(why))) continue;
  if (format === 'segment' && why === 'bytes after the last section') continue;
  const name = `refused ${format}: ${why}`;
  if (format === 'checkpoint-text') {
    const code = await isRefused(name, () => v.checkpoint(policy, noteOf(unhex(hex))));
    if (code !== 'checkpoint') failures.push(`${name}: as ${code}`);
  } else await isRefused(name, () => formats[format][0](unhex(hex)));
}
same('checkpoint text', await isRefused('unsigned', () => v.checkpoint(policy, noteOf(example('checkpoint-text')))),
  'log-signature');

// ---- trees

const { roots, tiles, inclusion } = vectors.trees;
const leaf = (i) => Buffer.from(sha256(Buffer.from([0, i >>> 24, (i >>> 16) & 255, (i >>> 8) & 255, i & 255])), 'hex');
const node = (a, b) => Buffer.from(sha256(Buffer.concat([Buffer.from([1]), a, b])), 'hex');
const perfect = (hashes) => (hashes.length === 1 ? hashes[0] : perfect(
  Array.from({ length: hashes.length / 2 }, (_, i) => node(hashes[2 * i], hashes[2 * i + 1]))));
const LEAVES = Array.from({ length: 70000 }, (_, i) => leaf(i));
const placed = (n) => (n < 1000 ? '' : `x${String(Math.floor(n / 1000)).padStart(3, '0')}/`) + String(n % 1000).padStart(3, '0');
function tilesOf(size) {
  const files = {};
  for (let level = 0, row = LEAVES.slice(0, size); row.length; level += 1) {
    const above = [];
    for (let n = 0; n * 256 < row.length; n += 1) {
      const part = row.slice(n * 256, n * 256 + 256);
      const path = `tile/${level}/${placed(n)}${part.length < 256 ? `.p/${part.length}` : ''}`;
      files[path] = new Uint8Array(Buffer.concat(part));
      if (part.length === 256) above.push(perfect(part));
    }
    row = above;
  }
  return files;
}
for (const [size, root] of Object.entries(roots)) {
  const files = tilesOf(Number(size));
  const tile = await holds('tree', () => v.openTree(folder(files), Number(size), root));
  if (Number(size) > 255) same('leaf', (await tile(0, 0))[255], LEAVES[255].toString('hex'));
  if (Number(size) !== 70000) continue;
  for (const [path, hash] of Object.entries(tiles)) same('tile', sha256(files[path]), hash);
  same('leaf', (await tile(0, 273))[111], LEAVES[69999].toString('hex'));
  for (const path of ['tile/0/005', 'tile/1/000', 'tile/0/273.p/112', 'tile/1/001.p/17', 'tile/2/000.p/1']) {
    const changed = { ...files, [path]: files[path].slice() };
    changed[path][31] ^= 1;
    await isRefused('changed tile', async () => (await v.openTree(folder(changed), 70000, root))(0, 5));
  }
  const grown = { ...files, 'tile/0/273': new Uint8Array([...files['tile/0/273.p/112'], ...new Uint8Array(144 * 32)]) };
  delete grown['tile/0/273.p/112'];
  await holds('a partial tile that is full by now', () => v.openTree(folder(grown), 70000, root));
}
for (const { index: i, size, proof } of inclusion) {
  same('inclusion', await v.rootFrom(LEAVES[i].toString('hex'), i, size, proof), roots[size]);
  await isRefused('inclusion with a hash more', () => v.rootFrom('00', i, size, [...proof, roots[1]]));
  if (size > 1) await isRefused('inclusion with a hash less', () => v.rootFrom('00', i, size, proof.slice(1)));
  await isRefused('inclusion beyond the tree', () => v.rootFrom('00', size, size, proof));
}

// ---- the small archive, and such as lie

const decoded = (files) => Object.fromEntries(
  Object.entries(files).map(([path, data]) => [path, data === null ? null : new Uint8Array(Buffer.from(data, 'base64'))]));
const archive = decoded(vectors.archive.files);
const ask = (files, query, through) => v.query(vectors.archive.policy, folder(files), query.topic,
  { since: query.windows[0], until: query.windows[1], through });
for (const query of vectors.archive.queries) {
  for (const through of [true, false]) {
    const answer = await holds('query', () => ask(archive, query, through));
    same('found', answer?.found.map(({ id, sent, window }) => ({ id, sent, window })), query.found.map(
      ({ id, sent, window }) => ({ id, sent, window })));
    same('cover', answer?.cover, query.cover);
  }
}
const without = (...gone) => Object.fromEntries(Object.entries(archive).filter(([path]) => !gone.includes(path)));
const [everywhere] = vectors.archive.queries;
for (const gone of [['segment/2/000.car', 'segment/2/001.car'], ['segment/0/000.car', 'segment/0/001.car']]) {
  const answer = await holds('query without some files', () => ask(without(...gone), everywhere, true));
  same('found without some files', answer?.found.map((e) => e.id), everywhere.found.map((e) => e.id));
}
const edge = vectors.archive.queries.find((q) => q.windows[0] === 1);
const climbed = await holds('query of a roll-up for its child', () => ask(without('segment/0/001.car'), edge, true));
same('found in the roll-up', climbed?.found.map((e) => e.id), edge.found.map((e) => e.id));
same('cover by the roll-up', climbed?.cover[0], [1, 0]);
same('what is gone', await isRefused('gone', () => ask(without('segment/0/004.car'), everywhere, true)), 'not-found');
for (const { why, files, query, through } of vectors.archive_mutants) {
  const changed = { ...archive, ...decoded(files) };
  for (const path of Object.keys(changed)) if (changed[path] === null) delete changed[path];
  await isRefused(`${why} (${through})`, () => ask(changed, vectors.archive.queries[query], through === 'index'));
}

// ---- proof files

for (const [name, { policy: of, file: proof, proves }] of Object.entries(vectors.proofs.proofs)) {
  const text = vectors.proofs.policies[of];
  const good = bytesOf(proof);
  const got = await holds('proof', () => v.verifyProof(text, good));
  same('proves', Object.keys(proves).map((k) => got?.[k]), Object.values(proves));
  for (let at = 0; at < good.length; at += Number(stride)) {
    const [before, after] = [good.slice(0, at), good.slice(at + 1)];
    const changed = good[at] ^ (1 << (at % 8));
    for (const [how, ...some] of [['changed', changed], ['left out'], ['more', good[at], 65]]) {
      const bytes = new Uint8Array([...before, ...some, ...after]);
      await isRefused(`${name}, byte ${at} ${how}`, () => v.verifyProof(text, bytes));
    }
  }
}
for (const { why, what, policy: of, file: proof } of vectors.proofs.refused) {
  const name = `proof refused: ${what}`;
  same(`why ${what}`, await isRefused(name, () => v.verifyProof(vectors.proofs.policies[of], bytesOf(proof))), why);
}

// ---- an index so large that it has tables: section `indexes` of the vectors says what is in it

if (tables) {
  const { set, children, rows } = vectors.indexes.tables;
  const levels = [{ windows: 2, kind: 'bodies' }, { windows: 2 * children, kind: 'index' }];
  const d = { id: set, widths: [1, 2, 2 * children], levels, bucket_bits: 6, rollup_lag: 1 };
  const data = new Uint8Array(readFileSync(tables));
  const cid = Buffer.from(data.subarray(14, 50)).toString('hex'); // its header names the root
  const log = { d, get: folder({ 'segment/2/000.car': data }), rootCid: async () => cid };
  for (const key of [0, 50, 100003, 12345678, 950000050, 1899900008, 1899900050, 4294967295]) {
    const name = `index of tables, ${key}`;
    const found = await holds(name, () => v.indexTables(log, v.spanOf(d, 2, 0), key));
    const low = key - (key % 2 ** 26);
    const inBucket = (k) => k >= low && k < low + 2 ** 26;
    for (let c = 0; c < children; c += 1) {
      const half = Array.from({ length: rows / 2 }, (_, i) => 100000 * i);
      const keys = half.flatMap((k, i) => (i % children === c ? [k + c] : [k + c, k + 50]));
      same(`${name}: keys`, found?.[c].keys.filter(inBucket), keys.filter(inBucket));
      const pages = half.flatMap((k, i) => [[k + c, 2 * i], [k + c, 2 * i + 1]]).filter(([k]) => inBucket(k));
      same(`${name}: pages`, found?.[c].rows.filter((r) => inBucket(r.key)).map((r) => [r.key, r.window, r.cid]),
        pages.map(([k, j]) => [k, 2 * c + (j % 2), `01551220${sha256(Buffer.from(`page ${c} ${j}`))}`]));
    }
  }
}
process.stdout.write(JSON.stringify({ failures, counts, codes }));
