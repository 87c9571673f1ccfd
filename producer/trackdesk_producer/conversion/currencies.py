"""ISO 4217: the codes of money, with the digits of their minor unit.

Left out are the codes without a minor unit (metals, units of account, XTS, and XXX, "no currency"):
nobody pays for an order in them, and the books keep XXX for amounts that came without a currency.
Kept are a few codes withdrawn in recent years, because late conversions and slow platforms still name them.
"""

from types import MappingProxyType

_CODES_BY_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF
        CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
        GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL
        MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR
        PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
        TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_WITHDRAWN = {2: "ANG BGN CUC HRK SLL ZWL"}

MINOR_UNITS = MappingProxyType(
    {
        code: digits
        for table in (_CODES_BY_DIGITS, _WITHDRAWN)
        for digits, codes in table.items()
        for code in codes.split()
    }
)
"""Digits after the point of each accepted currency, by its upper-case code."""
