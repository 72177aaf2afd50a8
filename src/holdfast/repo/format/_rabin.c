/* The hot loops of a repository: where to cut a file into chunks, and how to read, sort and search an index.
 *
 * Every function has a twin in _reference.py with the same results, which tests compare. Nothing here keeps
 * state, trusts a length or an offset it was given, or leaves the buffers it was handed. The GIL is released wherever
 * the work is longer than a look-up.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- chunks ------------------------------------------------------------------------------------------------------
 *
 * restic cuts behind a byte when the Rabin fingerprint of the last 64 bytes has 20 low zero bits, though never below
 * MIN_SIZE and always at MAX_SIZE. It starts each chunk with a fresh window and looks for the first time at MIN_SIZE,
 * when nothing but those 64 bytes is in it. So whether to cut at some length depends on the 64 bytes before it alone,
 * and lengths can be tried in any order: several lanes side by side hide the wait for each other's table look-ups.
 */
enum {
    DEGREE = 53,
    WINDOW = 64,
    MIN_SIZE = 512 << 10,
    MAX_SIZE = 8 << 20,
    CUT_MASK = (1 << 20) - 1,
    LANES = 4,
    STRIDE = 16 << 10, /* bytes for each lane before the lanes meet again */
};

typedef struct {
    uint64_t reduce[256]; /* what cancels the top byte and adds its remainder */
    uint64_t leave[256];  /* what a byte still counts for once it has left the window */
} Tables;

/* XORs of subsets of eight values: a linear map is known by what it does to single bits. */
static void fill_table(uint64_t table[256], const uint64_t bits[8])
{
    table[0] = 0;
    for (int byte = 1; byte < 256; byte++) {
        int lowest = 0;
        while (!(byte >> lowest & 1))
            lowest++;
        table[byte] = table[byte & (byte - 1)] ^ bits[lowest];
    }
}

static void make_tables(Tables *tables, uint64_t polynomial)
{
    uint64_t reduce[8], leave[8], power = 1; /* x to the exponent, modulo the polynomial */

    for (int exponent = 0; exponent < 8 * WINDOW + 8; exponent++) {
        if (exponent >= DEGREE && exponent < DEGREE + 8)
            reduce[exponent - DEGREE] = power | UINT64_C(1) << exponent;
        if (exponent >= 8 * WINDOW)
            leave[exponent - 8 * WINDOW] = power;
        power <<= 1;
        if (power >> DEGREE)
            power ^= polynomial;
    }
    fill_table(tables->reduce, reduce);
    fill_table(tables->leave, leave);
}

/* `digest` stays below 2^53, so its top byte is an index into the table. */
static inline uint64_t append_byte(const Tables *tables, uint64_t digest, uint8_t byte)
{
    return (digest << 8 | byte) ^ tables->reduce[digest >> (DEGREE - 8)];
}

static inline uint64_t slide_byte(const Tables *tables, uint64_t digest, const uint8_t *byte)
{
    return append_byte(tables, digest, *byte) ^ tables->leave[byte[-WINDOW]];
}

static uint64_t digest_before(const Tables *tables, const uint8_t *end)
{
    uint64_t digest = 0;
    for (int i = -WINDOW; i < 0; i++)
        digest = append_byte(tables, digest, end[i]);
    return digest;
}

/* Index of the first of `count` bytes behind which to cut, or `count`. */
static Py_ssize_t scan_lane(const Tables *tables, const uint8_t *bytes, Py_ssize_t count)
{
    uint64_t digest = digest_before(tables, bytes);
    for (Py_ssize_t i = 0; i < count; i++) {
        digest = slide_byte(tables, digest, bytes + i);
        if (!(digest & CUT_MASK))
            return i;
    }
    return count;
}

/* The same for LANES * stride bytes: all lanes at once until one has a cut, then each lane before it to its end. */
static Py_ssize_t scan_lanes(const Tables *tables, const uint8_t *bytes, Py_ssize_t stride)
{
    uint64_t digest[LANES];
    Py_ssize_t i;
    int lane;

    for (lane = 0; lane < LANES; lane++)
        digest[lane] = digest_before(tables, bytes + lane * stride);
    for (i = 0; i < stride; i++)
        for (lane = 0; lane < LANES; lane++) {
            digest[lane] = slide_byte(tables, digest[lane], bytes + lane * stride + i);
            if (!(digest[lane] & CUT_MASK))
                goto found;
        }
    return LANES * stride;

found:
    for (int earlier = 0; earlier < lane; earlier++) {
        Py_ssize_t start = earlier * stride + i + 1, rest = stride - i - 1;
        Py_ssize_t cut = scan_lane(tables, bytes + start, rest);
        if (cut < rest)
            return start + cut;
    }
    return lane * stride + i;
}

/* Length of the first chunk, 0 if `size` bytes do not tell. */
static Py_ssize_t find_cut(const Tables *tables, const uint8_t *bytes, Py_ssize_t size)
{
    Py_ssize_t limit = size < MAX_SIZE ? size : MAX_SIZE;
    Py_ssize_t at = MIN_SIZE - 1; /* index of the last byte of the shortest chunk */

    while (at < limit) {
        Py_ssize_t left = limit - at, count = left, cut;
        if (left < LANES) {
            cut = scan_lane(tables, bytes + at, left);
        } else {
            Py_ssize_t stride = left / LANES < STRIDE ? left / LANES : STRIDE;
            count = LANES * stride;
            cut = scan_lanes(tables, bytes + at, stride);
        }
        if (cut < count)
            return at + cut + 1;
        at += count;
    }
    return size >= MAX_SIZE ? MAX_SIZE : 0;
}

static PyObject *rabin_next_cut(PyObject *module, PyObject *args)
{
    unsigned long long polynomial;
    Py_buffer data;
    int at_end;
    Py_ssize_t cut = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "Ky*p:next_cut", &polynomial, &data, &at_end))
        return NULL;
    if (polynomial >> DEGREE != 1) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_ValueError, "the polynomial is not of degree 53");
        return NULL;
    }
    if (data.len >= MIN_SIZE) {
        Py_BEGIN_ALLOW_THREADS
        Tables tables;
        make_tables(&tables, polynomial);
        cut = find_cut(&tables, data.buf, data.len);
        Py_END_ALLOW_THREADS
    }
    if (!cut && at_end)
        cut = data.len;
    PyBuffer_Release(&data);
    return PyLong_FromSsize_t(cut);
}

/* ---- rows --------------------------------------------------------------------------------------------------------
 *
 * A row is where one blob lies: its id, then four big-endian numbers: kind (top bit) and pack, offset, length, length
 * of the plaintext. The order of rows is the order of their bytes.
 */
enum { ID_SIZE = 32, ROW_SIZE = 48, SMALL = 24, MAX_BITS = 24 };
static const uint32_t TREE = UINT32_C(1) << 31;

typedef struct {
    uint8_t bytes[ROW_SIZE];
} Row;

static inline uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static inline uint32_t row_pack(const Row *row)
{
    return get32(row->bytes + ID_SIZE) & ~TREE;
}

/* Number of rows in a buffer, or -1 with an exception set. */
static Py_ssize_t count_rows(const Py_buffer *rows)
{
    if (rows->len % ROW_SIZE || rows->len / ROW_SIZE >= TREE) {
        PyErr_SetString(PyExc_ValueError, "these are no rows");
        return -1;
    }
    return rows->len / ROW_SIZE;
}

/* ---- reading an index document -----------------------------------------------------------------------------------
 *
 * Accepts what restic and Holdfast write, to the byte. Whatever differs (spacing, order, other keys) is left to a
 * general JSON parser: a scanner that guesses would lose blobs. (The twin leaves everything to that parser.)
 */
typedef struct {
    const uint8_t *at, *end;
} Text;

/* Each digit's value plus one; 0 is no digit. */
static const uint8_t HEX[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static int take(Text *text, const char *word, size_t length)
{
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length))
        return 0;
    text->at += length;
    return 1;
}
#define TAKE(text, word) take(text, word, sizeof(word) - 1)

static int take_id(Text *text, uint8_t id[ID_SIZE])
{
    if (text->end - text->at < 2 * ID_SIZE)
        return 0;
    for (int i = 0; i < ID_SIZE; i++, text->at += 2) {
        uint8_t high = HEX[text->at[0]], low = HEX[text->at[1]];
        if (!high || !low)
            return 0;
        id[i] = (uint8_t)((high - 1) << 4 | (low - 1));
    }
    return 1;
}

static int take_number(Text *text, uint8_t field[4])
{
    const uint8_t *start = text->at;
    uint64_t value = 0;

    while (text->at < text->end && *text->at >= '0' && *text->at <= '9' && value <= UINT32_MAX)
        value = 10 * value + (*text->at++ - '0');
    if (text->at == start || value > UINT32_MAX || (*start == '0' && text->at - start > 1))
        return 0;
    put32(field, (uint32_t)value);
    return 1;
}

static int take_blob(Text *text, uint32_t pack, Row *row)
{
    uint32_t kind = 0;

    memset(row, 0, sizeof *row);
    if (!TAKE(text, "{\"id\":\"") || !take_id(text, row->bytes) || !TAKE(text, "\",\"type\":\""))
        return 0;
    if (TAKE(text, "tree"))
        kind = TREE;
    else if (!TAKE(text, "data"))
        return 0;
    put32(row->bytes + ID_SIZE, kind | pack);
    if (!TAKE(text, "\",\"offset\":") || !take_number(text, row->bytes + 36) ||
        !TAKE(text, ",\"length\":") || !take_number(text, row->bytes + 40))
        return 0;
    if (TAKE(text, ",\"uncompressed_length\":") && !take_number(text, row->bytes + 44))
        return 0;
    return TAKE(text, "}");
}

static int take_superseded(Text *text)
{
    uint8_t ignored[ID_SIZE];

    if (!TAKE(text, "\"supersedes\":["))
        return 1;
    do {
        if (!TAKE(text, "\"") || !take_id(text, ignored) || !TAKE(text, "\""))
            return 0;
    } while (TAKE(text, ","));
    return TAKE(text, "],");
}

typedef struct {
    uint8_t *packs;
    Row *rows;
    size_t pack_count, row_count, pack_room, row_room;
} Contents;

static int take_pack(Text *text, Contents *contents)
{
    uint32_t pack = (uint32_t)contents->pack_count;

    if (contents->pack_count == contents->pack_room || !TAKE(text, "{\"id\":\"") ||
        !take_id(text, contents->packs + ID_SIZE * contents->pack_count++) ||
        !TAKE(text, "\",\"blobs\":["))
        return 0;
    if (TAKE(text, "]}"))
        return 1;
    do {
        if (contents->row_count == contents->row_room ||
            !take_blob(text, pack, contents->rows + contents->row_count++))
            return 0;
    } while (TAKE(text, ","));
    return TAKE(text, "]}");
}

static int take_document(Text *text, Contents *contents)
{
    if (!TAKE(text, "{") || !take_superseded(text) || !TAKE(text, "\"packs\":["))
        return 0;
    if (!TAKE(text, "]}")) {
        do {
            if (!take_pack(text, contents))
                return 0;
        } while (TAKE(text, ","));
        if (!TAKE(text, "]}"))
            return 0;
    }
    (void)TAKE(text, "\n");
    return text->at == text->end;
}

static PyObject *rabin_scan_index(PyObject *module, PyObject *document)
{
    Py_buffer data;
    Contents contents = {0};
    PyObject *result = NULL;
    int well_formed;

    (void)module;
    if (PyObject_GetBuffer(document, &data, PyBUF_SIMPLE))
        return NULL;
    /* No pack is written in fewer than 80 bytes and no blob in fewer than 100. */
    contents.pack_room = (size_t)data.len / 80 + 1;
    contents.row_room = (size_t)data.len / 100 + 1;
    contents.packs = malloc(contents.pack_room * ID_SIZE);
    contents.rows = malloc(contents.row_room * sizeof(Row));
    if (!contents.packs || !contents.rows) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    Text text = {data.buf, (const uint8_t *)data.buf + data.len};
    well_formed = take_document(&text, &contents);
    Py_END_ALLOW_THREADS
    if (well_formed)
        result = Py_BuildValue("y#y#", contents.packs, (Py_ssize_t)(contents.pack_count * ID_SIZE),
                               contents.rows, (Py_ssize_t)(contents.row_count * sizeof(Row)));
    else
        result = Py_NewRef(Py_None);
done:
    free(contents.packs);
    free(contents.rows);
    PyBuffer_Release(&data);
    return result;
}

/* ---- sorting rows ------------------------------------------------------------------------------------------------ */

static void sort_few(Row *rows, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        Row row = rows[i];
        uint32_t hole = i;
        for (; hole > 0 && memcmp(&rows[hole - 1], &row, sizeof row) > 0; hole--)
            rows[hole] = rows[hole - 1];
        rows[hole] = row;
    }
}

/* In place, by one byte of the row after the other: ids are random, so two or three bytes part nearly all of them. */
static void sort_by_byte(Row *rows, uint32_t count, int byte)
{
    uint32_t next[256], end[256] = {0}, start = 0;

    if (byte == ROW_SIZE)
        return;
    if (count <= SMALL) {
        sort_few(rows, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        end[rows[i].bytes[byte]]++;
    for (int value = 0; value < 256; value++) {
        next[value] = start;
        end[value] = start += end[value];
    }
    for (int value = 0; value < 256; value++)
        while (next[value] < end[value]) { /* follow displaced rows until one belongs here */
            Row row = rows[next[value]];
            while (row.bytes[byte] != value) {
                uint8_t other = row.bytes[byte];
                if (next[other] == end[other])
                    return; /* another thread writes to the rows: stay within them */
                Row displaced = rows[next[other]];
                rows[next[other]++] = row;
                row = displaced;
            }
            rows[next[value]++] = row;
        }
    start = 0;
    for (int value = 0; value < 256; start = end[value++])
        if (end[value] - start > 1)
            sort_by_byte(rows + start, end[value] - start, byte + 1);
}

static PyObject *rabin_sort_rows(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t count, distinct = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "w*:sort_rows", &data))
        return NULL;
    count = count_rows(&data);
    if (count > 0) {
        Row *rows = data.buf;
        Py_BEGIN_ALLOW_THREADS
        sort_by_byte(rows, (uint32_t)count, 0);
        for (Py_ssize_t i = 0; i < count; i++)
            if (!distinct || memcmp(&rows[i], &rows[distinct - 1], sizeof *rows))
                rows[distinct++] = rows[i];
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return count < 0 ? NULL : PyLong_FromSsize_t(distinct);
}

static PyObject *rabin_renumber(PyObject *module, PyObject *args)
{
    Py_buffer data, numbers;
    Py_ssize_t count, done = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "w*y*:renumber", &data, &numbers))
        return NULL;
    count = count_rows(&data);
    for (Row *row = data.buf; done < count; row++, done++) {
        uint32_t pack = row_pack(row), number;
        if (pack >= numbers.len / sizeof number)
            break;
        memcpy(&number, (const uint8_t *)numbers.buf + pack * sizeof number, sizeof number);
        put32(row->bytes + ID_SIZE, (get32(row->bytes + ID_SIZE) & TREE) | (number & ~TREE));
    }
    if (count >= 0 && done < count)
        PyErr_SetString(PyExc_ValueError, "a row names a pack that is not there");
    PyBuffer_Release(&data);
    PyBuffer_Release(&numbers);
    return done == count ? Py_NewRef(Py_None) : NULL;
}

/* ---- searching sorted rows ---------------------------------------------------------------------------------------
 *
 * `starts` has 2^bits + 1 big-endian row numbers: where ids that begin with those bits start. It only narrows the
 * search; wrong numbers in it make blobs unknown and nothing worse.
 */
static inline uint32_t id_prefix(const uint8_t *id, int bits)
{
    return bits ? get32(id) >> (32 - bits) : 0;
}

static PyObject *rabin_row_starts(PyObject *module, PyObject *args)
{
    Py_buffer data;
    int bits;
    Py_ssize_t count;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*i:row_starts", &data, &bits))
        return NULL;
    count = count_rows(&data);
    if (count >= 0 && (bits < 0 || bits > MAX_BITS)) {
        PyErr_SetString(PyExc_ValueError, "0 to 24 bits of an id can be looked up");
        count = -1;
    }
    if (count >= 0)
        result = PyBytes_FromStringAndSize(NULL, 4 * (((Py_ssize_t)1 << bits) + 1));
    if (result) {
        const Row *rows = data.buf;
        uint8_t *starts = (uint8_t *)PyBytes_AsString(result);
        size_t filled = 0, size = ((size_t)1 << bits) + 1;
        for (Py_ssize_t i = 0; i < count; i++)
            for (uint32_t prefix = id_prefix(rows[i].bytes, bits); filled <= prefix; filled++)
                put32(starts + 4 * filled, (uint32_t)i);
        for (; filled < size; filled++)
            put32(starts + 4 * filled, (uint32_t)count);
    }
    PyBuffer_Release(&data);
    return result;
}

typedef struct {
    const Row *rows;
    const uint8_t *starts;
    Py_ssize_t count;
    int bits;
} Sorted;

/* False, with an exception set, if the buffers cannot be rows and their starts. */
static int view_sorted(Sorted *sorted, const Py_buffer *rows, const Py_buffer *starts)
{
    int bits = 0;
    while (bits < MAX_BITS && starts->len > 4 * (((Py_ssize_t)1 << bits) + 1))
        bits++;
    if (starts->len != 4 * (((Py_ssize_t)1 << bits) + 1)) {
        PyErr_SetString(PyExc_ValueError, "these are no starts of rows");
        return 0;
    }
    *sorted = (Sorted){rows->buf, starts->buf, count_rows(rows), bits};
    return sorted->count >= 0;
}

/* Number of the first row of a blob, or -1. */
static Py_ssize_t find_row(const Sorted *sorted, const uint8_t *id, int tree)
{
    const uint8_t *start = sorted->starts + 4 * (size_t)id_prefix(id, sorted->bits);
    Py_ssize_t low = get32(start), high = get32(start + 4);
    uint8_t key[ID_SIZE + 1];

    memcpy(key, id, ID_SIZE);
    key[ID_SIZE] = tree ? 0x80 : 0;
    if (high > sorted->count)
        high = sorted->count;
    while (low < high) {
        Py_ssize_t middle = low + (high - low) / 2;
        if (memcmp(&sorted->rows[middle], key, sizeof key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low >= sorted->count || memcmp(&sorted->rows[low], id, ID_SIZE) ||
        sorted->rows[low].bytes[ID_SIZE] >> 7 != !!tree)
        return -1;
    return low;
}

/* Whether the two buffers can be searched for ids of the third. */
static int check_search(Sorted *sorted, const Py_buffer *rows, const Py_buffer *starts, int one,
                        const Py_buffer *ids)
{
    if (!view_sorted(sorted, rows, starts))
        return 0;
    if (one ? ids->len != ID_SIZE : ids->len % ID_SIZE) {
        PyErr_SetString(PyExc_ValueError, "an id has 32 bytes");
        return 0;
    }
    return 1;
}

static PyObject *rabin_find_row(PyObject *module, PyObject *args)
{
    Py_buffer rows, starts, id;
    Sorted sorted;
    int tree;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*p:find_row", &rows, &starts, &id, &tree))
        return NULL;
    if (check_search(&sorted, &rows, &starts, 1, &id))
        result = PyLong_FromSsize_t(find_row(&sorted, id.buf, tree));
    PyBuffer_Release(&rows);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&id);
    return result;
}

static PyObject *rabin_have_rows(PyObject *module, PyObject *args)
{
    Py_buffer rows, starts, ids;
    Sorted sorted;
    int tree;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*p:have_rows", &rows, &starts, &ids, &tree))
        return NULL;
    if (check_search(&sorted, &rows, &starts, 0, &ids) &&
        (result = PyBytes_FromStringAndSize(NULL, ids.len / ID_SIZE))) {
        char *known = PyBytes_AsString(result);
        for (Py_ssize_t i = 0; i < ids.len / ID_SIZE; i++)
            known[i] = find_row(&sorted, (const uint8_t *)ids.buf + ID_SIZE * i, tree) >= 0;
    }
    PyBuffer_Release(&rows);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&ids);
    return result;
}

/* ---- rows by pack ------------------------------------------------------------------------------------------------ */

/* Counting sort of row numbers: `ends` comes zeroed and leaves with each pack's end in `order`. */
static int order_rows(const Row *rows, uint32_t count, uint32_t *ends, size_t packs, uint32_t *order)
{
    for (uint32_t i = 0; i < count; i++) {
        if (row_pack(&rows[i]) >= packs)
            return 0;
        ends[row_pack(&rows[i])]++;
    }
    for (size_t pack = 0, sum = 0; pack < packs; pack++) {
        size_t size = ends[pack];
        ends[pack] = (uint32_t)sum;
        sum += size;
    }
    for (uint32_t i = 0; i < count; i++)
        order[ends[row_pack(&rows[i])]++] = i;
    return 1;
}

static PyObject *rabin_order_by_pack(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t packs, count;
    uint32_t *ends = NULL, *order = NULL;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*n:order_by_pack", &data, &packs))
        return NULL;
    count = count_rows(&data);
    if (count >= 0 && (packs < 0 || packs >= TREE)) {
        PyErr_SetString(PyExc_ValueError, "no such number of packs");
        count = -1;
    }
    if (count >= 0) {
        ends = calloc((size_t)packs + 1, sizeof *ends);
        order = malloc(((size_t)count + 1) * sizeof *order);
        if (!ends || !order)
            PyErr_NoMemory();
        else if (!order_rows(data.buf, (uint32_t)count, ends, (size_t)packs, order))
            PyErr_SetString(PyExc_ValueError, "a row names a pack that is not there");
        else
            result = Py_BuildValue("y#y#", ends, packs * (Py_ssize_t)sizeof *ends, order,
                                   count * (Py_ssize_t)sizeof *order);
    }
    free(ends);
    free(order);
    PyBuffer_Release(&data);
    return result;
}

/* Adds up each row's length and the size of its entry in a pack's header. */
static int add_lengths(const Row *rows, uint32_t count, uint64_t *sums, size_t packs, const uint32_t entry[2])
{
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *numbers = rows[i].bytes + ID_SIZE;
        if (row_pack(&rows[i]) >= packs)
            return 0;
        sums[row_pack(&rows[i])] += (uint64_t)get32(numbers + 8) + entry[get32(numbers + 12) != 0];
    }
    return 1;
}

static PyObject *rabin_pack_lengths(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t packs, count;
    unsigned int plain, compressed;
    uint64_t *sums = NULL;
    PyObject *result = NULL;

    (void)module;
    if (!PyArg_ParseTuple(args, "y*nII:pack_lengths", &data, &packs, &plain, &compressed))
        return NULL;
    count = count_rows(&data);
    if (count >= 0 && (packs < 0 || packs >= TREE)) {
        PyErr_SetString(PyExc_ValueError, "no such number of packs");
        count = -1;
    }
    if (count >= 0) {
        const uint32_t entry[2] = {plain, compressed};
        sums = calloc((size_t)packs + 1, sizeof *sums);
        if (!sums)
            PyErr_NoMemory();
        else if (!add_lengths(data.buf, (uint32_t)count, sums, (size_t)packs, entry))
            PyErr_SetString(PyExc_ValueError, "a row names a pack that is not there");
        else
            result = PyBytes_FromStringAndSize((const char *)sums, packs * (Py_ssize_t)sizeof *sums);
    }
    free(sums);
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef methods[] = {
    {"next_cut", rabin_next_cut, METH_VARARGS, NULL},
    {"scan_index", rabin_scan_index, METH_O, NULL},
    {"sort_rows", rabin_sort_rows, METH_VARARGS, NULL},
    {"renumber", rabin_renumber, METH_VARARGS, NULL},
    {"row_starts", rabin_row_starts, METH_VARARGS, NULL},
    {"find_row", rabin_find_row, METH_VARARGS, NULL},
    {"have_rows", rabin_have_rows, METH_VARARGS, NULL},
    {"order_by_pack", rabin_order_by_pack, METH_VARARGS, NULL},
    {"pack_lengths", rabin_pack_lengths, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "holdfast.repo.format._rabin",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__rabin(void)
{
    return PyModuleDef_Init(&definition);
}
