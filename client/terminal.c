/* terminal.c - see terminal.h. What every terminal since the VT100 knows is enough, so there is no data base of them. */
#include "terminal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "text.h"

static struct termios before;
static bool has_keys; /* standard input is the terminal, too */

bool terminal_is_one(void)
{
    const char *kind = getenv("TERM");

    return isatty(STDOUT_FILENO) && kind != NULL && *kind != '\0' && strcmp(kind, "dumb") != 0;
}

/* False: nobody takes it, nor will. */
static bool write_all(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, text, size);

        if (n < 0 && errno != EINTR)
            return errno == EAGAIN;
        text += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static void say(const char *text)
{
    write_all(text, strlen(text));
}

void terminal_open(void)
{
    struct termios raw;

    has_keys = tcgetattr(STDIN_FILENO, &before) == 0;
    if (has_keys) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* signals stay */
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    say("\033[?1049h\033[?25l\033[?7l\033[2J"); /* another screen, no cursor, no lines that go on below */
}

void terminal_close(void)
{
    say("\033[0m\033[?7h\033[?25h\r\033[K\033[?1049l"); /* some have one screen alone: no footer before the prompt */
    if (has_keys)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

/* False: standard output is no terminal, or one that does not know. */
static bool find_size(size_t *columns, size_t *rows)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0)
        return false;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return true;
}

size_t terminal_columns(void)
{
    size_t columns, rows;

    return find_size(&columns, &rows) ? columns : 0;
}

void terminal_size(size_t *columns, size_t *rows)
{
    if (find_size(columns, rows))
        return;
    *columns = 80;
    *rows = 24;
}

static const char *start_of(enum style style)
{
    static const char *const plain[] = {[STYLE_PLAIN] = "", [STYLE_STRONG] = "1",  [STYLE_FAINT] = "2",
                                        [STYLE_GOOD] = "",  [STYLE_DOUBTFUL] = "", [STYLE_BAD] = "7"};
    static const char *const coloured[] = {[STYLE_PLAIN] = "",    [STYLE_STRONG] = "1",      [STYLE_FAINT] = "2",
                                           [STYLE_GOOD] = "1;32", [STYLE_DOUBTFUL] = "1;33", [STYLE_BAD] = "1;31"};
    const char *no_colour = getenv("NO_COLOR");

    return (no_colour != NULL && *no_colour != '\0' ? plain : coloured)[style];
}

static void put_line(FILE *frame, enum style style, const char *text, size_t columns)
{
    int n = (int)text_fit(text, &columns);

    fprintf(frame, "\033[K\033[0;%sm%.*s\033[0m", start_of(style), n, text);
}

bool terminal_draw(const struct drawing *drawing, size_t first, const char *footer)
{
    char *text = NULL;
    size_t size, columns, rows;
    FILE *frame = open_memstream(&text, &size);
    bool is_there = true;

    if (frame == NULL)
        return true;
    terminal_size(&columns, &rows);
    fputs("\033[H", frame);
    for (size_t i = 0; i + 1 < rows; i++) {
        if (first + i < drawing->count)
            put_line(frame, drawing->lines[first + i].style, drawing->lines[first + i].text, columns);
        fputs(first + i < drawing->count ? "\r\n" : "\033[K\r\n", frame);
    }
    put_line(frame, STYLE_FAINT, footer, columns);
    if (fclose(frame) == 0)
        is_there = write_all(text, size);
    free(text);
    return is_there;
}

void terminal_print(const char *text, size_t size)
{
    char clean[4096];
    size_t n;

    if (!isatty(STDOUT_FILENO)) {
        fwrite(text, 1, size, stdout);
        return;
    }
    for (; size > 0 && (n = text_clean(text, size, clean, sizeof clean)) > 0; text += n, size -= n)
        fputs(clean, stdout);
}

/* An arrow is three characters: ESC [ A, or ESC O A. */
int terminal_key(void)
{
    char key[3] = "";

    if (!has_keys || read(STDIN_FILENO, key, 1) != 1)
        return -1;
    if (key[0] != '\033')
        return (unsigned char)key[0];
    if (read(STDIN_FILENO, key + 1, 1) != 1 || read(STDIN_FILENO, key + 2, 1) != 1)
        return '\033';
    return key[2] == 'A' ? KEY_UP : key[2] == 'B' ? KEY_DOWN : '\033';
}
