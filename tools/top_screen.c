/* top_screen.c: `seemalloc top` on the terminal.
 *
 * Signals are blocked but for the moments of waiting, so nothing interrupts a freeze. ncurses keeps its own answers to SIGWINCH and SIGTSTP; SIGINT, SIGTERM
 * and SIGHUP end the loop, and the terminal is put in order before the command ends, however it does.
 * SPDX-License-Identifier: MIT */
#include <langinfo.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"
#include "top.h"

#define WIDTH_LEAST 40
#define HEIGHT_LEAST 10
#define ROOMY 16     /* from so many lines on there are lines that only make it easier to read */
#define STRIP_ROWS 4 /* most of one strip */
#define REFUSALS 3   /* readings in a row that may fail, as they do while it becomes another program */
#define UNICODE_HALF 0x2584
#define UNICODE_HATCH 0x2591

struct screen {
    struct top *top;
    enum top_view view;
    bool together, is_paused, shows_help, is_coloured, has_blocks; /* has_blocks: of Unicode */
    size_t first_row, first_strip, rows, strips;                   /* of the table and the strips: scrolled to; all */
    unsigned page;                                                 /* rows of the table that are visible */
    unsigned refusals;
    uint64_t next;  /* reading, on the clock */
    char entry[16]; /* the delay that is being typed */
    bool is_asking;
    const char *note;      /* for the last line, until the next key */
    bool quits, has_ended; /* has_ended: the process */
    int status;
    struct fault fault;
};

static volatile sig_atomic_t ended_by;

static void note_signal(int number) { ended_by = number; }

static void leave(void) {
    if (!isendwin()) endwin();
}

/* --- drawing ------------------------------------------------------------------------------------------------------------------------------------- */

/* Words that begin with a digit are bold. */
static void put_line(int y, const char *line) {
    bool begins = true, is_bold = false;
    move(y, 0);
    for (int x = 0; line[x] != '\0' && x < COLS; x++) {
        bool blank = line[x] == ' ' || line[x] == '(';
        if (begins) is_bold = line[x] >= '0' && line[x] <= '9';
        begins = blank;
        addch((unsigned char)line[x] | (is_bold && !blank ? A_BOLD : 0));
    }
}

static void put_reverse(int y, const char *line) {
    attron(A_REVERSE);
    mvprintw(y, 0, "%-*.*s", COLS, COLS, line);
    attroff(A_REVERSE);
}

static short pair_of(unsigned first, unsigned second) { return (short)(1 + first * HEAP_STATES + second); }

static bool make_pairs(void) {
    const char *no_colour = getenv("NO_COLOR");
    if ((no_colour != NULL && no_colour[0] != '\0') || !has_colors() || start_color() != OK || COLORS < 256 ||
        COLOR_PAIRS <= pair_of(HEAP_STATES - 1, HEAP_STATES - 1)) {
        return false;
    }
    use_default_colors();
    for (unsigned first = 0; first < HEAP_STATES; first++) {
        for (unsigned second = 0; second < HEAP_STATES; second++) {
            init_pair(pair_of(first, second), first == second ? 16 : strip_colour(second), strip_colour(first));
        }
    }
    return true;
}

static void put_glyph(const struct screen *screen, wchar_t glyph, char instead, short pair) {
    cchar_t cell;
    const wchar_t text[2] = {screen->has_blocks ? glyph : (wchar_t)(unsigned char)instead, L'\0'};
    setcchar(&cell, text, A_NORMAL, pair, NULL);
    add_wch(&cell);
}

static void put_cell(const struct screen *screen, const struct strip_cell *cell) {
    unsigned first = strip_first(cell), second = strip_second(cell);
    if (!screen->is_coloured) {
        addch((unsigned char)strip_character(cell));
    } else if (!strip_is_there(cell)) {
        put_glyph(screen, UNICODE_HATCH, ':', pair_of(first, first));
    } else {
        put_glyph(screen, first == second ? L' ' : UNICODE_HALF, ' ', pair_of(first, second));
    }
}

static int put_strip(const struct screen *screen, int y, int end, bool labelled, int rows, size_t number, bool seen[HEAP_STATES]) {
    static struct top_strip strip;
    size_t wanted = (size_t)COLS * (size_t)rows, cells = wanted < TOP_CELLS ? wanted : TOP_CELLS;
    top_strip(&strip, screen->top, screen->together, number, cells);
    if (labelled && y < end) put_line(y++, strip.label);
    for (size_t i = 0; i < strip.count; i++) {
        int row = y + (int)i / COLS;
        if (row >= end) break;
        move(row, (int)i % COLS);
        put_cell(screen, &strip.cell[i]);
        seen[strip_first(&strip.cell[i])] = true;
        if (screen->is_coloured) seen[strip_second(&strip.cell[i])] = true;
    }
    int used = (int)((strip.count + (size_t)COLS - 1) / (size_t)COLS);
    return y + used < end ? y + used : end;
}

/* As many of the states as fit, in their order; at the end which of the strips are seen, if not all are. */
static void put_legend(const struct screen *screen, int y, const bool seen[HEAP_STATES], size_t fit) {
    char more[80] = "";
    if (fit < screen->strips)
        snprintf(more, sizeof more, "%zu to %zu of %zu < >", screen->first_strip + 1, screen->first_strip + fit, screen->strips);
    int end = COLS - (int)strlen(more);
    move(y, 0);
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        const char *name = state == SEEMALLOC_IN_USE && screen->top->picture->heap.is_live ? "in use or cached" : heap_state_name(state);
        if (!seen[state] || getcurx(stdscr) + (int)strlen(name) + 4 > end) continue;
        if (screen->is_coloured) {
            attron(COLOR_PAIR(pair_of(state, state)));
            addstr("  ");
            attroff(COLOR_PAIR(pair_of(state, state)));
        } else {
            addch((unsigned char)strip_letter(state) | A_BOLD);
        }
        printw(" %s  ", name);
    }
    mvaddstr(y, end, more);
}

/* `room` lines for strips and, where there is much room, their legend. The line below. */
static int put_strips(struct screen *screen, int y, int room) {
    bool seen[HEAP_STATES] = {false}, is_roomy = LINES >= ROOMY;
    screen->strips = top_strips(screen->top, screen->together);
    if (screen->strips == 0) return y;
    room = room > is_roomy ? room - is_roomy : 1;
    int label = room >= 2 ? 1 : 0, rows = room / (int)screen->strips - label;
    rows = rows > STRIP_ROWS ? STRIP_ROWS : rows < 1 ? 1 : rows;
    size_t fit = (size_t)(room / (rows + label));
    if (screen->first_strip + fit > screen->strips) screen->first_strip = screen->strips > fit ? screen->strips - fit : 0;
    int stop = y + room;
    for (size_t i = screen->first_strip; i < screen->strips && i < screen->first_strip + fit; i++) {
        y = put_strip(screen, y, stop, label != 0, rows, i, seen);
    }
    if (is_roomy) put_legend(screen, y++, seen, fit);
    return y;
}

static void put_rows(struct screen *screen, const struct top_table *table, int y, int end) {
    screen->page = end - y > 1 ? (unsigned)(end - y - 1) : 0;
    screen->rows = table->count - 1;
    if (screen->first_row + screen->page > screen->rows) screen->first_row = screen->rows > screen->page ? screen->rows - screen->page : 0;
    if (y < end) put_reverse(y, table->line[0]);
    for (unsigned i = 0; i < screen->page && screen->first_row + i < screen->rows; i++) {
        mvaddnstr(y + 1 + (int)i, 0, table->line[screen->first_row + i + 1], COLS);
    }
}

/* Strips get half of what is left, and what the table does not need; at least one line of both stays. */
static void put_body(struct screen *screen, int y, int end) {
    struct top_table table;
    top_table(&table, screen->top, screen->view);
    int all = end - y, spare = table.count < (size_t)all ? all - (int)table.count : 0;
    int room = spare > all / 2 ? spare : all / 2;
    if (room > all - 2) room = all - 2;
    put_rows(screen, &table, put_strips(screen, y, room), end);
    top_table_free(&table);
}

static void put_last_line(const struct screen *screen) {
    char text[TOP_WIDTH];
    if (screen->is_asking) {
        snprintf(text, sizeof text, "delay in seconds (now %.1f): %s", (double)screen->top->delay / 1e9, screen->entry);
    } else if (screen->note != NULL) {
        snprintf(text, sizeof text, "%s", screen->note);
    } else {
        snprintf(text, sizeof text, "q quit  h help  c %s  1 %s  f %s  p %s  d delay %.1f", top_view_name((screen->view + 1) % TOP_VIEWS),
                 screen->together ? "apart" : "together", screen->top->is_live ? "freeze" : "no freeze",
                 screen->is_paused ? "go on" : "pause", (double)screen->top->delay / 1e9);
    }
    mvaddnstr(LINES - 1, 0, text, COLS - 1);
}

static void draw_help(void) {
    int y = 0;
    for (const char *at = top_help; *at != '\0' && y < LINES - 1;) {
        size_t length = strcspn(at, "\n");
        if (strncmp(at, "Keys:", 5) == 0 || y != 0) mvaddnstr(y++, 0, at, (int)length < COLS ? (int)length : COLS);
        at += length + (at[length] != '\0');
        if (strncmp(at, "Options:", 8) == 0) break;
    }
    mvaddnstr(LINES - 1, 0, "any key goes back", COLS - 1);
}

static void draw(struct screen *screen) {
    static char head[TOP_HEAD][TOP_WIDTH];
    erase();
    if (COLS < WIDTH_LEAST || LINES < HEIGHT_LEAST) {
        char text[80];
        snprintf(text, sizeof text, "window %dx%d; needs %dx%d", COLS, LINES, WIDTH_LEAST, HEIGHT_LEAST);
        mvaddnstr(0, 0, text, COLS);
    } else if (screen->shows_help) {
        draw_help();
    } else {
        bool is_roomy = LINES >= ROOMY;
        int end = is_roomy || screen->is_asking ? LINES - 1 : LINES;
        unsigned lines = top_head(screen->top, (unsigned)COLS, (unsigned)LINES - 3, head);
        for (unsigned i = 0; i < lines; i++) put_line((int)i, head[i]);
        if (screen->is_paused) mvaddstr(0, COLS - 7, " PAUSED");
        put_body(screen, (int)lines + is_roomy, end);
        if (end < LINES) put_last_line(screen);
    }
    move(LINES - 1, COLS - 1);
    refresh();
}

/* --- keys ------------------------------------------------------------------------------------------------------------------------------------------ */

static void take_entry(struct screen *screen) {
    char *end = NULL;
    double delay = strtod(screen->entry, &end);
    screen->is_asking = false;
    if (screen->entry[0] == '\0') return;
    if (*end != '\0' || delay < 0.1 || delay > 3600) {
        screen->note = "a delay is 0.1 to 3600 seconds";
        return;
    }
    screen->top->delay = (uint64_t)(delay * 1e9);
    screen->next = 0;
}

static void take_digit(struct screen *screen, int key) {
    size_t length = strlen(screen->entry);
    if (key == '\n' || key == '\r' || key == KEY_ENTER) {
        take_entry(screen);
    } else if (key == 27) {
        screen->is_asking = false;
    } else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && length != 0) {
        screen->entry[length - 1] = '\0';
    } else if (((key >= '0' && key <= '9') || key == '.') && length + 1 < sizeof screen->entry) {
        screen->entry[length] = (char)key;
        screen->entry[length + 1] = '\0';
    }
}

static void back(size_t *first, size_t by) { *first -= *first < by ? *first : by; }

/* Movement: drawing sees to it that nothing leads beyond the end. */
static void move_by_key(struct screen *screen, int key) {
    size_t page = screen->page > 1 ? screen->page - 1 : 1;
    switch (key) {
    case KEY_UP: back(&screen->first_row, 1); break;
    case KEY_DOWN: screen->first_row++; break;
    case KEY_PPAGE: back(&screen->first_row, page); break;
    case KEY_NPAGE: screen->first_row += page; break;
    case KEY_HOME: screen->first_row = 0; break;
    case KEY_END: screen->first_row = screen->rows; break;
    case '<': back(&screen->first_strip, 1); break;
    case '>': screen->first_strip++; break;
    default: break;
    }
}

static void take_key(struct screen *screen, int key) {
    if (key == KEY_RESIZE) return;
    screen->note = NULL;
    if (screen->is_asking) {
        take_digit(screen, key);
        return;
    }
    if (screen->shows_help) {
        screen->shows_help = false;
        screen->quits = key == 'q';
        return;
    }
    switch (key) {
    case 'q': screen->quits = true; break;
    case 'h':
    case '?': screen->shows_help = true; break;
    case ' ': screen->next = screen->top->next_picture = 0; break;
    case 'p': screen->is_paused = !screen->is_paused; break;
    case 'd':
    case 's':
        screen->is_asking = true;
        screen->entry[0] = '\0';
        break;
    case '1': screen->together = !screen->together; break;
    case 'c':
    case '\t':
        screen->view = (screen->view + 1) % TOP_VIEWS;
        screen->first_row = 0;
        break;
    case 'f':
        screen->top->is_live = !screen->top->is_live;
        screen->next = screen->top->next_picture = 0;
        break;
    default: move_by_key(screen, key);
    }
}

/* Until a key, a signal, or the next reading. */
static void wait_and_take(struct screen *screen, const sigset_t *open) {
    uint64_t now = top_clock(), rest = screen->next > now ? screen->next - now : 0;
    struct timespec time = {.tv_sec = (time_t)(rest / 1000000000u), .tv_nsec = (long)(rest % 1000000000u)};
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = ppoll(&input, 1, screen->is_paused ? NULL : &time, open), keys = 0;
    for (int key; !screen->quits && (key = getch()) != ERR; keys++) take_key(screen, key); /* what follows q is the shell's */
    if (ready > 0 && keys == 0) screen->quits = true;                                      /* the terminal is gone */
}

/* --- all --------------------------------------------------------------------------------------------------------------------------------------------- */

static void read_again(struct screen *screen) {
    struct top *top = screen->top;
    screen->fault = (struct fault){0};
    screen->next = top_clock() + top->delay;
    if (top_read(top, top->next_picture == 0, &screen->fault)) {
        screen->refusals = 0;
    } else if (top_has_ended(top)) {
        screen->quits = screen->has_ended = true;
    } else if (++screen->refusals == REFUSALS) {
        screen->quits = true;
        screen->status = 1;
    }
}

static bool open_terminal(struct screen *screen, sigset_t *open) {
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    sigset_t closed;
    sigemptyset(&closed);
    sigaddset(&closed, SIGWINCH);
    sigaddset(&closed, SIGTSTP);
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
        sigaction(ending[i], &(struct sigaction){.sa_handler = note_signal}, NULL);
        sigaddset(&closed, ending[i]);
    }
    sigprocmask(SIG_BLOCK, &closed, open);
    setlocale(LC_CTYPE, "");
    if (newterm(NULL, stdout, stdin) == NULL) return false;
    atexit(leave);
    screen->has_blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    screen->is_coloured = make_pairs();
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    set_escdelay(25);
    return true;
}

int top_screen(struct top *top) {
    static struct screen screen;
    sigset_t open;
    screen.top = top;
    if (!top_read(top, true, &screen.fault)) {
        tool_say("%s", screen.fault.text);
        return 1;
    }
    screen.next = top_clock() + top->delay;
    if (!open_terminal(&screen, &open)) {
        const char *term = getenv("TERM");
        tool_say("the terminal's type, '%s', is not known; set TERM to its type, or use --batch N", term != NULL ? term : "");
        return 1;
    }
    while (!screen.quits && ended_by == 0) {
        draw(&screen);
        wait_and_take(&screen, &open);
        if (!screen.is_paused && !screen.quits && top_clock() >= screen.next) read_again(&screen);
    }
    leave();
    if (screen.status != 0) tool_say("%s", screen.fault.text);
    if (screen.has_ended) printf("process %d (%s) has ended\n", (int)top->pid, top->command);
    if (ended_by == SIGTERM || ended_by == SIGHUP) {
        signal(ended_by, SIG_DFL);
        raise(ended_by);
        sigprocmask(SIG_SETMASK, &open, NULL);
    }
    return tool_finish(screen.status);
}
