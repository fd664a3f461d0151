<?php
// The calls that Lsky Pro makes on a local storage directory, in its order: the walk up to an
// existing directory, mkdir level by level, open without truncation, an exclusive lock, cutting to
// nothing, one copy of the upload, close. Written from a trace of those calls, with none of its code.
//
//   php lsky.php upload ROOT SOURCE PATH   stores SOURCE at ROOT/PATH
//   php lsky.php view   ROOT PATH          reads it as a protected view does
//   php lsky.php delete ROOT PATH          deletes it as the last record of these bytes does
//   php lsky.php picture FILE KIND SIZE SEED   writes a small valid picture, padded to SIZE bytes
//
// Prints one JSON object; exits with 1 when a call failed that Lsky reports as an error.

error_reporting(E_ALL);
set_error_handler(function (int $number, string $text): bool {
    // A call that Lsky makes with its warnings silenced.
    if (!(error_reporting() & $number)) {
        return true;
    }
    fwrite(STDERR, $text . "\n");
    exit(1);
});

function fail(string $what): never
{
    fwrite(STDERR, $what . "\n");
    exit(1);
}

function ensure_directory(string $root, string $directory): void
{
    clearstatcache();
    if (is_dir($directory)) {
        return;
    }
    $missing = [];
    for ($at = $directory; $at !== $root && !is_dir($at); $at = dirname($at)) {
        array_unshift($missing, $at);
    }
    foreach ($missing as $level) {
        @mkdir($level, 0700);
    }
    clearstatcache();
    if (!is_dir($directory)) {
        fail("cannot make $directory");
    }
}

function upload(string $root, string $source, string $path): array
{
    clearstatcache();
    if (!is_dir($root) && !mkdir($root, 0700)) {
        fail("no storage directory $root");
    }
    $target = "$root/$path";
    ensure_directory($root, dirname($target));
    $from = fopen($source, 'rb');
    $started = hrtime(true);
    $to = fopen($target, 'c');
    if ($to === false) {
        fail("cannot open $target");
    }
    fstat($to);
    ftell($to);
    if (!flock($to, LOCK_EX)) {
        fail("cannot lock $target");
    }
    ftruncate($to, 0);
    rewind($to);
    $copied = stream_copy_to_stream($from, $to);
    if ($copied === false) {
        fail("cannot write $target");
    }
    fclose($to);
    $micros = intdiv(hrtime(true) - $started, 1000);
    fclose($from);
    return ['path' => $path, 'bytes' => $copied, 'md5' => md5_file($source), 'micros' => $micros];
}

function view(string $root, string $path): array
{
    clearstatcache();
    if (!is_dir($root)) {
        fail("no storage directory $root");
    }
    $bytes = @file_get_contents("$root/$path");
    if ($bytes === false) {
        return ['path' => $path, 'found' => false];
    }
    return ['path' => $path, 'found' => true, 'bytes' => strlen($bytes), 'md5' => md5($bytes)];
}

function delete(string $root, string $path): array
{
    clearstatcache();
    $target = "$root/$path";
    if (is_dir($root) && file_exists($target)) {
        if (!unlink($target)) {
            fail("cannot delete $target");
        }
        return ['path' => $path, 'deleted' => true];
    }
    return ['path' => $path, 'deleted' => false];
}

// One pixel each, with room for padding where the format lets readers skip it.
function picture(string $file, string $kind, int $size, string $seed): array
{
    $filler = function (int $length) use ($seed): string {
        $text = '';
        for ($n = 0; strlen($text) < $length; $n++) {
            $text .= hash('sha256', "$seed:$n", true);
        }
        return substr($text, 0, max(0, $length));
    };
    switch ($kind) {
        case 'gif':
            $head = "GIF89a" . pack('vvCCC', 1, 1, 0x80, 0, 0) . "\0\0\0\xff\xff\xff";
            $tail = ",\0\0\0\0\1\0\1\0\0\2\2D\1\0;";
            $left = $size - strlen($head) - strlen($tail);
            $comment = "";
            while ($left > 6) {
                $length = min(255, $left - 4);
                $comment .= "!\xfe" . chr($length) . $filler($length) . "\0";
                $left -= $length + 4;
            }
            $bytes = $head . $comment . $tail;
            break;
        case 'png':
            $chunk = fn (string $type, string $data): string =>
                pack('N', strlen($data)) . $type . $data . pack('N', crc32($type . $data));
            $head = "\x89PNG\r\n\x1a\n" . $chunk('IHDR', pack('NNCCCCC', 1, 1, 8, 0, 0, 0, 0));
            $tail = $chunk('IDAT', gzcompress("\0\0")) . $chunk('IEND', '');
            $room = $size - strlen($head) - strlen($tail) - 12 - 2;
            $bytes = $head . $chunk('tEXt', "c\0" . $filler(max(0, $room))) . $tail;
            break;
        case 'jpg':
            $head = "\xff\xd8";
            $body = base64_decode(
                '/9sAQwABAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB'
                . 'AQEB/8AACwgAAQABAQERAP/EABQAAQAAAAAAAAAAAAAAAAAAAAn/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/'
                . 'AFR//9k='
            );
            $left = $size - strlen($head) - strlen($body);
            while ($left > 4) {
                $length = min(65533, $left - 4);
                $head .= "\xff\xfe" . pack('n', $length + 2) . $filler($length);
                $left -= $length + 4;
            }
            $bytes = $head . $body;
            break;
        case 'webp':
            $image = base64_decode('VlA4TAwAAAAvAAAAAAcQEf0PRET/Aw==');
            $room = max(0, $size - 12 - 18 - strlen($image) - 8);
            $room -= $room % 2;
            $extended = 'VP8X' . pack('V', 10) . "\x04\0\0\0\0\0\0\0\0\0";
            $body = $extended . $image . 'XMP ' . pack('V', $room) . $filler($room);
            $bytes = 'RIFF' . pack('V', 4 + strlen($body)) . 'WEBP' . $body;
            break;
        default:
            fail("no such kind: $kind");
    }
    file_put_contents($file, $bytes);
    return ['bytes' => strlen($bytes), 'md5' => md5($bytes)];
}

[, $command] = $argv + [1 => ''];
$arguments = array_slice($argv, 2);
$result = match ($command) {
    'upload' => upload(...$arguments),
    'view' => view(...$arguments),
    'delete' => delete(...$arguments),
    'picture' => picture($arguments[0], $arguments[1], (int) $arguments[2], $arguments[3]),
    default => fail('usage: php lsky.php upload|view|delete|picture …'),
};
echo json_encode($result), "\n";
