/* The size that an ext4 superblock tells.
 * Run by meson test.
 * Never opens a disk. */
#include <glib.h>
#include <string.h>

#include "guest/disks.h"

static void
put32 (unsigned char *at, guint32 value)
{
  value = GUINT32_TO_LE (value);
  memcpy (at, &value, 4);
}

static void
test_superblock (void)
{
  unsigned char data[1024] = { 0 };
  unsigned long long blocks = 0;
  unsigned block_size = 0;
  g_assert_cmpint (guest_ext4_blocks (data, &blocks, &block_size), ==, -1);

  data[0x38] = 0x53;
  data[0x39] = 0xef;
  put32 (data + 0x04, 65536);
  put32 (data + 0x18, 2);
  put32 (data + 0x150, 1);
  g_assert_cmpint (guest_ext4_blocks (data, &blocks, &block_size), ==, 0);
  g_assert_cmpuint (blocks, ==, 65536);
  g_assert_cmpuint (block_size, ==, 4096);

  put32 (data + 0x60, 0x80);
  g_assert_cmpint (guest_ext4_blocks (data, &blocks, &block_size), ==, 0);
  g_assert_cmpuint (blocks, ==, 65536 + (1ull << 32));

  char label[GUEST_EXT4_LABEL], uuid[GUEST_EXT4_UUID];
  for (unsigned char i = 0; i < 16; i++) {
    data[0x68 + i] = (unsigned char)(i * 17);
    data[0x78 + i] = (unsigned char)('a' + i);
  }
  g_assert_cmpint (guest_ext4_names (data, label, uuid), ==, 0);
  g_assert_cmpstr (label, ==, "abcdefghijklmnop");
  g_assert_cmpstr (uuid, ==, "00112233-4455-6677-8899-aabbccddeeff");

  put32 (data + 0x18, 7);
  g_assert_cmpint (guest_ext4_blocks (data, &blocks, &block_size), ==, -1);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/guest/disks/superblock", test_superblock);
  return g_test_run ();
}
