<?php
// The calls that Lsky Pro makes on a local storage directory, in its order, made by the same PHP
// functions and so by the same system calls: the walk up to an existing directory, mkdir level by
// level with 0700, open without truncation, an exclusive lock, cutting to nothing, one copy of the
// upload, close. Written from a trace of those calls, with none of its code.
//
//   php lsky.php strategy ROOT             would the storage form take this directory?
//   php lsky.php upload ROOT SOURCE PATH   stores SOURCE at ROOT/PATH
//   php lsky.php view   ROOT PATH          reads it as a protected view does
//   php lsky.php delete ROOT PATH          deletes it as the last record of these bytes does
//   php lsky.php many   ROOT COUNT SEED    makes, uploads and views so many pictures, one after the other
//   php lsky.php picture FILE KIND SIZE SEED   writes a valid picture of one pixel, padded to SIZE bytes
//
// Prints one JSON object, with the time that the calls on ROOT took; exits with 1 when a call failed
// that Lsky reports as an error. Several at once are several processes, as php-fpm's workers are.

error_reporting(E_ALL);
set_error_handler(function (int $number, string $text): bool {
    // A call that Lsky makes with its warnings silenced.
    if (!(error_reporting() & $number)) {
        return true;
    }
    fail($text);
});

function fail(string $what): never
{
    fwrite(STDERR, $what . "\n");
    exit(1);
}

// Every operation begins like this; a worker forgets what it knew of files after each request.
function enter(string $root): void
{
    clearstatcache();
    if (!is_dir($root) && !@mkdir($root, 0700, true) && !is_dir($root)) {
        fail("no storage directory $root");
    }
}

function strategy(string $root): array
{
    clearstatcache();
    $result = ['directory' => is_dir($root), 'writable' => is_writable($root)];
    if ($result !== ['directory' => true, 'writable' => true] || is_link($root)) {
        fail("no writable storage directory $root");
    }
    return $result;
}

function upload(string $root, string $source, string $path): array
{
    $from = fopen($source, 'rb');
    $target = "$root/$path";
    $directory = dirname($target);
    $started = hrtime(true);
    enter($root);
    if (!is_dir($directory)) {
        // Whether somebody else was faster shows in the next line.
        @mkdir($directory, 0700, true);
        clearstatcache();
        if (!is_dir($directory)) {
            fail("cannot make $directory");
        }
    }
    // Opens without truncation, waits for the lock, cuts, copies with copy_file_range or else with
    // mmap and one write, and closes; what close says is not heeded.
    $stored = file_put_contents($target, $from, LOCK_EX);
    $micros = intdiv(hrtime(true) - $started, 1000);
    if ($stored === false) {
        fail("cannot write $target");
    }
    fclose($from);
    return ['path' => $path, 'bytes' => $stored, 'md5' => md5_file($source), 'micros' => $micros];
}

function view(string $root, string $path): array
{
    $started = hrtime(true);
    enter($root);
    $bytes = @file_get_contents("$root/$path");
    $micros = intdiv(hrtime(true) - $started, 1000);
    $result = ['path' => $path, 'found' => $bytes !== false, 'micros' => $micros];
    return $bytes === false ? $result : $result + ['bytes' => strlen($bytes), 'md5' => md5($bytes)];
}

function delete(string $root, string $path): array
{
    $started = hrtime(true);
    enter($root);
    $target = "$root/$path";
    // Any error of this look counts as "already gone".
    $deleted = file_exists($target);
    if ($deleted && !unlink($target)) {
        fail("cannot delete $target");
    }
    $micros = intdiv(hrtime(true) - $started, 1000);
    return ['path' => $path, 'deleted' => $deleted, 'micros' => $micros];
}

// What one worker does in an hour: each picture is looked at right after its upload.
function many(string $root, string $count, string $seed): array
{
    $kinds = ['gif', 'jpg', 'png', 'webp'];
    $source = tempnam(sys_get_temp_dir(), 'lsky');
    $pictures = $micros = [];
    for ($n = 0; $n < (int) $count; $n++) {
        $kind = $kinds[$n % 4];
        picture($source, $kind, 20000 + crc32("$seed:$n") % 80000, "$seed:$n");
        $path = sprintf('2026/11/%02d/%s-%d.%s', 1 + $n % 28, $seed, $n, $kind);
        $stored = upload($root, $source, $path);
        $seen = view($root, $path);
        if (($seen['md5'] ?? null) !== $stored['md5']) {
            fail("$path is not what was uploaded");
        }
        $pictures[$path] = $stored['md5'];
        $micros[] = $stored['micros'];
    }
    unlink($source);
    return ['pictures' => $pictures, 'micros' => $micros];
}

function picture(string $file, string $kind, int $size, string $seed): array
{
    $make = ['gif' => 'gif', 'jpg' => 'jpg', 'png' => 'png', 'webp' => 'webp'][$kind] ?? fail("no such kind: $kind");
    $bytes = $make($size, fn (int $length): string => filler($seed, $length));
    file_put_contents($file, $bytes);
    return ['bytes' => strlen($bytes), 'md5' => md5($bytes)];
}

// Bytes that differ with the seed and do not compress.
function filler(string $seed, int $length): string
{
    $text = '';
    for ($n = 0; strlen($text) < $length; $n++) {
        $text .= hash('sha256', "$seed:$n", true);
    }
    return substr($text, 0, max(0, $length));
}

// Each format has a place that readers skip; the padding goes there.

function gif(int $size, callable $filler): string
{
    $head = 'GIF89a' . pack('vvCCC', 1, 1, 0x80, 0, 0) . "\0\0\0\xff\xff\xff";
    $image = ",\0\0\0\0\1\0\1\0\0\2\2D\1\0;";
    $comments = '';
    $left = $size - strlen($head) - strlen($image);
    while ($left > 4) {
        $length = min(255, $left - 4);
        $comments .= "!\xfe" . chr($length) . $filler($length) . "\0";
        $left -= $length + 4;
    }
    return $head . $comments . $image;
}

function png(int $size, callable $filler): string
{
    $chunk = fn (string $type, string $data): string =>
        pack('N', strlen($data)) . $type . $data . pack('N', crc32($type . $data));
    $head = "\x89PNG\r\n\x1a\n" . $chunk('IHDR', pack('NNCCCCC', 1, 1, 8, 0, 0, 0, 0));
    $image = $chunk('IDAT', gzcompress("\0\0")) . $chunk('IEND', '');
    $room = $size - strlen($head) - strlen($image) - strlen($chunk('tuYn', ''));
    // A private chunk that is safe to copy.
    return $head . $chunk('tuYn', $filler($room)) . $image;
}

function jpg(int $size, callable $filler): string
{
    $image = base64_decode(
        '/9sAQwABAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB'
        . 'AQEB/8AACwgAAQABAQERAP/EABQAAQAAAAAAAAAAAAAAAAAAAAn/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/'
        . 'AFR//9k='
    );
    $head = "\xff\xd8";
    $left = $size - strlen($head) - strlen($image);
    while ($left > 4) {
        $length = min(65533, $left - 4);
        $head .= "\xff\xfe" . pack('n', $length + 2) . $filler($length);
        $left -= $length + 4;
    }
    return $head . $image;
}

function webp(int $size, callable $filler): string
{
    $chunk = fn (string $type, string $data): string =>
        $type . pack('V', strlen($data)) . $data . (strlen($data) % 2 ? "\0" : '');
    // One pixel, and metadata behind it.
    $image = $chunk('VP8X', "\x04" . str_repeat("\0", 9))
        . base64_decode('VlA4TBEAAAAvAAAAAAdQqCIXpf+BiOh/AAA=');
    $room = max(0, $size - 12 - strlen($image) - 8);
    $body = 'WEBP' . $image . $chunk('XMP ', $filler($room - $room % 2));
    return 'RIFF' . pack('V', strlen($body)) . $body;
}

[, $command] = $argv + [1 => ''];
$arguments = array_slice($argv, 2);
$wanted = ['strategy' => 1, 'upload' => 3, 'view' => 2, 'delete' => 2, 'many' => 3, 'picture' => 4];
if (($wanted[$command] ?? -1) !== count($arguments)) {
    fail('usage: php lsky.php strategy ROOT | upload ROOT SOURCE PATH | view ROOT PATH | delete ROOT PATH'
        . ' | many ROOT COUNT SEED | picture FILE KIND SIZE SEED');
}
echo json_encode($command(...$arguments), JSON_UNESCAPED_SLASHES), "\n";
