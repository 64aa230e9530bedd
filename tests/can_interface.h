/* can_interface.h - a CAN interface named INTERFACE, in place of the kernel's: the plugin finds bind() and ioctl() of the test's program first. */
#ifndef CAN_INTERFACE_H
#define CAN_INTERFACE_H

#include <errno.h>
#include <linux/can.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define INTERFACE_INDEX 7

static struct {
    bool is_missing, is_down, is_other;
} interface;

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t size)
{
    (void)fd;
    (void)size;
    assert_int_equal(address.__sockaddr__->sa_family, AF_CAN);
    assert_int_equal(((const struct sockaddr_can *)(const void *)address.__sockaddr__)->can_ifindex, INTERFACE_INDEX);
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    struct ifreq *answer;
    va_list arguments;

    (void)fd;
    va_start(arguments, request);
    answer = va_arg(arguments, struct ifreq *);
    va_end(arguments);
    assert_string_equal(answer->ifr_name, INTERFACE);
    errno = ENODEV;
    if (interface.is_missing)
        return -1;
    if (request == SIOCGIFINDEX)
        answer->ifr_ifindex = INTERFACE_INDEX;
    else if (request == SIOCGIFHWADDR)
        answer->ifr_hwaddr.sa_family = interface.is_other ? ARPHRD_ETHER : ARPHRD_CAN;
    else
        answer->ifr_flags = interface.is_down ? 0 : IFF_UP;
    return 0;
}

#endif
